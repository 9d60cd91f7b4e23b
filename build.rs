//! Packs the manual pages that `--install` puts into place: `man` reads them as they are, and in
//! the binary they take a third of their size.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=man");
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

/// In the format of gzip (RFC 1952), without name and time, so that equal pages give equal bytes.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}
