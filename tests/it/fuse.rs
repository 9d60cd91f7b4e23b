//! The smallest FUSE filesystems: an empty directory, and one with a file that lies. See `linux/fuse.h`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::mounting::Mount;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const LSEEK: u32 = 46;

const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;

/// The number of the file; the directory has number 1.
const FILE: u64 = 2;

/// The file's name.
pub const NAME: &str = "file.copy";

/// What the file holds.
pub fn content() -> Vec<u8> {
    (0..20_000_u32).map(|number| number.to_le_bytes()[1]).collect()
}

/// Room for any request: the kernel wants 8 KiB at least.
const REQUEST_SIZE: usize = 64 * 1024;

/// Mounts an empty directory; `None` where that is not possible. It is served until it is unmounted.
pub fn mount(point: &Path) -> Option<Mount> {
    mount_for(0, point, false)
}

/// Mounts a directory with a file, as `fusermount` does for a user. The file says that it is root's and
/// has set-id bits, and answers SEEK_DATA with an offset before the one that was asked for.
pub fn mount_lying_file(user: u32, point: &Path) -> Option<Mount> {
    mount_for(user, point, true)
}

fn mount_for(user: u32, point: &Path, has_file: bool) -> Option<Mount> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
    let options = format!("fd=0,rootmode=40000,user_id={user},group_id={user},allow_other");
    let mut command = Command::new("mount");
    command.args(["-i", "-t", "fuse", "-o", &options, "fuse"]).arg(point);
    let output = command.stdin(device.try_clone().ok()?).output().ok()?;
    if !output.status.success() {
        return None;
    }
    thread::spawn(move || serve(device, has_file));
    Some(Mount::mounted(point))
}

fn serve(mut device: File, has_file: bool) {
    let mut request = vec![0; REQUEST_SIZE];
    while device.read(&mut request).is_ok_and(|len| len >= 40) {
        let opcode = number(&request, 4);
        let (error, body) = match opcode {
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => (0, init()),
            GETATTR => (0, [vec![0; 16], attributes(wide(&request, 16) == FILE)].concat()),
            STATFS => (0, vec![0; 80]),
            OPENDIR => (0, vec![0; 16]),
            READDIR if has_file && wide(&request, 48) == 0 => (0, listing()),
            READDIR | RELEASEDIR => (0, Vec::new()),
            LOOKUP if has_file && request[40..].starts_with(NAME.as_bytes()) => (0, found()),
            LOOKUP if has_file => (-ENOENT, Vec::new()),
            OPEN if has_file => (0, vec![0; 16]),
            READ if has_file => (0, piece(wide(&request, 48), number(&request, 56))),
            RELEASE if has_file => (0, Vec::new()),
            LSEEK if has_file => (0, seek(wide(&request, 48), number(&request, 56))),
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

fn number(request: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(request[at..at + 4].try_into().unwrap())
}

fn wide(request: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(request[at..at + 8].try_into().unwrap())
}

/// `struct fuse_init_out` of version 7.31.
fn init() -> Vec<u8> {
    let mut body = [7_u32, 31, 0, 0, 0, 4096, 1].map(u32::to_ne_bytes).concat();
    body.resize(64, 0);
    body
}

/// `struct fuse_attr` of the directory, with mode 0755, or of the file, with mode 6755: both root's.
fn attributes(is_file: bool) -> Vec<u8> {
    let (ino, size, mode, links) =
        if is_file { (FILE, content().len() as u64, 0o106_755, 1) } else { (1, 0, 0o40_755, 2_u32) };
    let mut body = vec![0; 88];
    body[..8].copy_from_slice(&ino.to_ne_bytes());
    body[8..16].copy_from_slice(&size.to_ne_bytes());
    body[60..64].copy_from_slice(&u32::to_ne_bytes(mode));
    body[64..68].copy_from_slice(&links.to_ne_bytes());
    body
}

/// `struct fuse_entry_out` of the file.
fn found() -> Vec<u8> {
    let mut body = vec![0; 40];
    body[..8].copy_from_slice(&FILE.to_ne_bytes());
    body.extend(attributes(true));
    body
}

/// `struct fuse_dirent` of the file.
fn listing() -> Vec<u8> {
    let len = u32::try_from(NAME.len()).unwrap();
    let mut body = [FILE.to_ne_bytes(), 1_u64.to_ne_bytes()].concat();
    body.extend([len.to_ne_bytes(), 8_u32.to_ne_bytes()].concat());
    body.extend(NAME.as_bytes());
    body.resize(body.len().next_multiple_of(8), 0);
    body
}

fn piece(offset: u64, size: u32) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap().min(content().len());
    let end = (start + size as usize).min(content().len());
    content()[start..end].to_vec()
}

/// `struct fuse_lseek_out`: the first data ends at 4096, and what comes next is before that.
fn seek(offset: u64, whence: u32) -> Vec<u8> {
    const SEEK_DATA: u32 = 3;
    let answer = match (whence, offset) {
        (SEEK_DATA, 0) => 0_u64,
        (SEEK_DATA, _) => 1,
        _ => 4096,
    };
    answer.to_ne_bytes().to_vec()
}
