//! A new LMDB environment with pages of 4 KB, and whether one that is there was written by a processor of this kind.
//!
//! LMDB takes the kernel's pages for a new file: 16 KB on some boards, which cost several times the bytes for each
//! change. The page size of a file that is there already is read from its two meta pages, so an empty environment is
//! written before LMDB opens it.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes an empty environment into a folder that has none.
pub(in crate::store) fn plant(dir: &Path) -> io::Result<()> {
    let data = dir.join(DATA);
    if data.exists() {
        return Ok(());
    }
    // Under a name of its own first: what a crash leaves half-written is no environment.
    let new = dir.join("data.new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(&environment(0))?;
    file.sync_all()?;
    fs::rename(new, data)
}

/// The bits of a word of the processor that wrote the environment in a folder; none if there is no environment, or none that
/// LMDB would open on any processor.
///
/// LMDB keeps its structures as they lie in memory, and the header before its mark on the first page is a word and
/// eight bytes.
pub(in crate::store) fn word_bits(dir: &Path) -> io::Result<Option<u32>> {
    let mut start = Vec::new();
    match File::open(dir.join(DATA)) {
        Ok(file) => file.take(HEADER_BYTES_LARGEST + 4).read_to_end(&mut start)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let header_bytes = start.windows(4).position(|four| four == MAGIC.to_ne_bytes());
    Ok(match header_bytes {
        Some(12) => Some(32),
        Some(16) => Some(64),
        _ => None,
    })
}

/// The two meta pages of an empty environment, as LMDB writes them on this processor.
fn environment(map_bytes: usize) -> Vec<u8> {
    let mut pages = Vec::with_capacity(2 * PAGE_BYTES);
    for number in 0..2 {
        write_meta_page(number, map_bytes, &mut pages);
        pages.resize((number + 1) * PAGE_BYTES, 0);
    }
    pages
}

/// `MDB_page`, `MDB_meta` and the two `MDB_db` in it: every field in the processor's own size and order.
fn write_meta_page(number: usize, map_bytes: usize, page: &mut Vec<u8>) {
    let long = |page: &mut Vec<u8>, values: &[usize]| {
        values.iter().for_each(|value| page.extend(value.to_ne_bytes()));
    };
    long(page, &[number]);
    page.extend([0, IS_META].map(u16::to_ne_bytes).concat());
    page.extend([0, MAGIC, VERSION].map(u32::to_ne_bytes).concat());
    let (address, no_root, empty) = (0, usize::MAX, [0; 4]);
    long(page, &[address, map_bytes]);
    // The tree of free pages, whose unused fields tell of the environment.
    page.extend((PAGE_BYTES as u32).to_ne_bytes());
    page.extend([INTEGER_KEY, 0].map(u16::to_ne_bytes).concat());
    long(page, &empty);
    long(page, &[no_root]);
    // The tree of tables.
    page.extend([0; 8]);
    long(page, &empty);
    long(page, &[no_root]);
    let (last_page, transaction) = (1, 0);
    long(page, &[last_page, transaction]);
}

const DATA: &str = "data.mdb";
/// `MDB_page` before its content: a word, and eight bytes that are the same everywhere.
const HEADER_BYTES_LARGEST: u64 = 16;
const PAGE_BYTES: usize = 4_096;
const IS_META: u16 = 0x08;
const INTEGER_KEY: u16 = 0x08;
const MAGIC: u32 = 0xbeef_c0de;
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use heed::EnvOpenOptions;

    use super::*;
    use crate::store::{lmdb::Lmdb, tables::Table};

    /// No meta page holds more.
    const META_BYTES: usize = 256;

    #[test]
    fn it_is_what_lmdb_writes_itself() {
        let dir = tempfile::tempdir().unwrap();
        let map_bytes = 1 << 20;
        // SAFETY: nobody else knows the folder.
        #[expect(unsafe_code, reason = "LMDB maps a file")]
        let env = unsafe { EnvOpenOptions::new().map_size(map_bytes).open(dir.path()) }.unwrap();
        drop(env);
        let mut written = fs::read(dir.path().join("data.mdb")).unwrap();
        // On a kernel with larger pages, theirs is the one thing that differs.
        let size_at =
            written.windows(4).position(|four| four == (written.len() as u32 / 2).to_ne_bytes()).unwrap();
        written[size_at..size_at + 4].copy_from_slice(&(PAGE_BYTES as u32).to_ne_bytes());
        assert_eq!(written[..META_BYTES], environment(map_bytes)[..META_BYTES]);
    }

    #[test]
    fn the_word_of_whoever_wrote_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(word_bits(dir.path()).unwrap(), None);
        plant(dir.path()).unwrap();
        assert_eq!(word_bits(dir.path()).unwrap(), Some(usize::BITS));
        for (header_bytes, bits) in [(12, Some(32)), (16, Some(64)), (14, None)] {
            let page = [&vec![0; header_bytes][..], &MAGIC.to_ne_bytes(), &[0; 4_000]].concat();
            fs::write(dir.path().join(DATA), page).unwrap();
            assert_eq!(word_bits(dir.path()).unwrap(), bits);
        }
    }

    #[test]
    fn a_new_store_has_pages_of_4_kb_and_an_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            plant(dir.path()).unwrap();
            let lmdb = Lmdb::open(dir.path()).unwrap();
            let mut txn = lmdb.write().unwrap();
            assert_eq!(lmdb.tree(Table::Names).stat(&txn).unwrap().page_size as usize, PAGE_BYTES);
            lmdb.put(&mut txn, Table::Names, b"name", b"value").unwrap();
            assert!(lmdb.tree(Table::Names).len(&txn).unwrap() == 1);
            txn.commit().unwrap();
        }
    }
}
