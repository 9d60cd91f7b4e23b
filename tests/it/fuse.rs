//! The smallest FUSE filesystem: one empty directory. See `linux/fuse.h`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::mounting::Mount;

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOSYS: i32 = 38;

/// Room for any request: the kernel wants 8 KiB at least.
const REQUEST_SIZE: usize = 64 * 1024;

/// Mounts it; `None` where that is not possible. It is served until it is unmounted.
pub fn mount(point: &Path) -> Option<Mount> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
    let mut command = Command::new("mount");
    command.args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "fuse"]).arg(point);
    let output = command.stdin(device.try_clone().ok()?).output().ok()?;
    if !output.status.success() {
        return None;
    }
    thread::spawn(move || serve(device));
    Some(Mount::mounted(point))
}

fn serve(mut device: File) {
    let mut request = vec![0; REQUEST_SIZE];
    while device.read(&mut request).is_ok_and(|len| len >= 40) {
        let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
        let (error, body) = match opcode {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => (0, init()),
            GETATTR => (0, attributes()),
            STATFS => (0, vec![0; 80]),
            OPENDIR => (0, vec![0; 16]),
            READDIR | RELEASEDIR => (0, Vec::new()),
            _ => (-ENOSYS, Vec::new()),
        };
        let mut reply = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        reply.extend(error.to_ne_bytes());
        reply.extend(&request[8..16]);
        reply.extend(body);
        if device.write_all(&reply).is_err() {
            return;
        }
    }
}

/// `struct fuse_init_out` of version 7.31.
fn init() -> Vec<u8> {
    let mut body = [7_u32, 31, 0, 0, 0, 4096, 1].map(u32::to_ne_bytes).concat();
    body.resize(64, 0);
    body
}

/// `struct fuse_attr_out` of a directory with mode 0755, which is number 1.
fn attributes() -> Vec<u8> {
    let mut body = vec![0; 104];
    body[16..24].copy_from_slice(&1_u64.to_ne_bytes());
    body[76..80].copy_from_slice(&0o40755_u32.to_ne_bytes());
    body[80..84].copy_from_slice(&2_u32.to_ne_bytes());
    body
}
