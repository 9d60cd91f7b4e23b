//! Packs the manual pages that `--install` puts into place: `man` reads them as they are, and in
//! the binary they take a third of their size.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The best that deflate has.
const LEVEL: u8 = 10;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=man");
    // The static binary is linked by it.
    println!("cargo::rerun-if-changed=tools/static.ld");
    let mut table = String::from("&[\n");
    for page in pages(&root.join("man")) {
        let name = page.file_name().and_then(|name| name.to_str()).expect("pages have plain names");
        let packed = out.join(format!("{name}.gz"));
        fs::write(&packed, gzip(&fs::read(&page).expect("a page can be read"))).expect("OUT_DIR is writable");
        writeln!(table, "({name:?}, include_bytes!({:?})),", packed.display().to_string())
            .expect("a string takes everything");
    }
    table.push(']');
    fs::write(out.join("pages.rs"), table).expect("OUT_DIR is writable");
}

/// In the order of their names, so that the binary is always the same.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("there is a manual");
    let mut pages: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    pages.sort();
    pages
}

/// RFC 1952, without name and time.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3];
    let size = u32::try_from(bytes.len()).expect("no page has 4 GiB");
    let packed = miniz_oxide::deflate::compress_to_vec(bytes, LEVEL);
    [&HEADER, packed.as_slice(), &crc32(bytes).to_le_bytes(), &size.to_le_bytes()].concat()
}

/// The checksum of RFC 1952, section 8, bit by bit: there is little to check.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
