//! What an event costs the disk: bytes written to the device, journals and checkpoints included, and bytes
//! that its files take.
//!
//! Needs the rights of root, to mount a disk of its own; without them the figures are left out.

use std::{fs, io::Write, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use super::{Figure, room_of};
use crate::{
    Scale,
    authority::Authority,
    disk::Disk,
    person::Person,
    report::{Goal, Measured, Row},
    server::{Kind, Server},
};

pub(crate) struct Writes;

impl Figure for Writes {
    const NAME: &'static str = "writes";
    const ROWS: &'static [Row] = &[
        Row { what: "bytes on the disk an event of 1 KB, 100,000 stored", goal: Goal::AtMost(1024.0) },
        Row { what: "of these in the index of words", goal: Goal::None },
        Row { what: "bytes written an event of 1 KB, alone, KB", goal: Goal::AtMost(16.0) },
        Row { what: "the same, 16 at once, KB", goal: Goal::AtMost(6.0) },
        Row { what: "the same, 256 at once, KB", goal: Goal::AtMost(4.0) },
        Row { what: "bytes written a change of membership, alone, KB", goal: Goal::None },
        Row {
            what: "bytes written an event of 1 KB and its words in their index, 16 at once, KB",
            goal: Goal::None,
        },
    ];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        if server.kind == Kind::Synapse {
            return Ok(Measured::default());
        }
        let disk = match Disk::mount(&server.folder) {
            Ok(disk) => disk,
            Err(error) => {
                let values = vec![None; Self::ROWS.len()];
                return Ok(Measured { values, notes: Vec::new() }.note(format!("writes: {error:#}")));
            }
        };
        let mut server =
            Server::meeting(server.kind, &disk.folder.join("server"), &Authority::new(&disk.folder)?)?;
        let data = server.folder.join("data");

        server.start().await?;
        let mut people = Person::register_many(&server, "user", AT_ONCE).await?;
        let room = room_of(&mut people).await?;
        server.stop()?;
        let empty = Kept::of(&data)?;
        server.start().await?;
        work(&people, 64, scale.of(STORED), Work::Send(&room)).await?;
        server.stop()?;
        // What the journal still held is in the event store now; the first commit of the next start prunes it.
        server.start().await?;
        indexed(&mut people[0], &room, "100000").await?;
        server.stop()?;
        let kept = Kept::of(&data)?;
        let each = |bytes: u64| bytes as f64 / scale.of(STORED) as f64;
        let mut values = vec![each(kept.all - empty.all), each(kept.index - empty.index)];

        let count = scale.of(16_000).max(2 * 16);
        server.start().await?;
        let before = disk.written()?;
        work(&people, 16, count, Work::Send(&room)).await?;
        indexed(&mut people[0], &room, "100001").await?;
        server.stop()?;
        let with_index = written(&disk, before, count)?;

        // The others are without the index, which follows when it likes: what it writes would count for whatever comes then.
        let mut config = fs::OpenOptions::new().append(true).open(server.folder.join("tayberry.toml"))?;
        writeln!(config, "[search]\nenabled = false")?;
        server.start().await?;
        while Kept::of(&data)?.index > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        server.stop()?;
        for (at_once, count, work_on) in [
            (1, 12_000, Work::Send(&room)),
            (16, 16_000, Work::Send(&room)),
            (AT_ONCE, 32_768, Work::Send(&room)),
            (1, 3_000, Work::Membership(&room)),
        ] {
            let count = scale.of(count).max(2 * at_once);
            server.start().await?;
            let before = disk.written()?;
            work(&people, at_once, count, work_on).await?;
            // What the journal holds still goes into the event store before the end.
            server.stop()?;
            values.push(written(&disk, before, count)?);
        }
        values.push(with_index);
        Ok(Measured { values: values.into_iter().map(Some).collect(), notes: Vec::new() })
    }
}

/// What was written for each of so many, in KB.
fn written(disk: &Disk, before: u64, count: usize) -> Result<f64> {
    Ok((disk.written()? - before) as f64 / 1024.0 / count as f64)
}

/// Waits for the index: says a word that no other text has, and that is in it after all of theirs.
async fn indexed(person: &mut Person, room: &str, word: &str) -> Result<()> {
    person.send(room, word).await?;
    while !person.finds(word).await? {
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What people do.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// Send events of about 1 KB to a room.
    Send(&'a str),
    /// Leave a public room and join it again.
    Membership(&'a str),
}

/// Lets `at_once` of the people do `count` things in all, over new connections.
async fn work(people: &[Person], at_once: usize, count: usize, work: Work<'_>) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, person) in people[..at_once].iter().enumerate() {
        let mut person = person.split().await?;
        let (Work::Send(room) | Work::Membership(room)) = work;
        let (room, sends) = (room.to_owned(), matches!(work, Work::Send(_)));
        tasks.spawn(async move {
            let mut text = Text(index as u64 + 1);
            for turn in 0..count / at_once {
                match (sends, turn % 2) {
                    (true, _) => person.send(&room, &text.next()).await?,
                    (false, 0) => person.leave(&room).await?,
                    (false, _) => person.join(&room).await?,
                }
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    tasks.join_all().await.into_iter().collect::<Result<()>>()
}

/// Letters as often as they are in English, of which the least can be compressed that text can.
struct Text(u64);

impl Text {
    fn next(&mut self) -> String {
        let letter = || {
            // Knuth's generator for MMIX, of which only the high bits are used.
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[(self.0 >> 33) as usize % LETTERS.len()])
        };
        std::iter::repeat_with(letter).take(LENGTH).collect()
    }
}

/// What a server keeps on the disk, in bytes: of the files of a folder what the file system gave them, pages that are free
/// within them and logs included.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    pub(super) all: u64,
    /// What of that is the index of words.
    pub(super) index: u64,
}

impl Kept {
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut kept = Self::default();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() {
                let within = Self::of(&path)?;
                kept.all += within.all;
                kept.index += within.index;
                continue;
            }
            let bytes = metadata.blocks() * 512;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            kept.all += bytes;
            kept.index += if name.starts_with("search.sqlite") { bytes } else { 0 };
        }
        Ok(kept)
    }
}

const STORED: usize = 100_000;
const AT_ONCE: usize = 256;
/// With what the server adds, an event has 1 KB.
const LENGTH: usize = 440;
const LETTERS: &[u8] = b"                 eeeeeeeeeetttttttaaaaaaooooooiiiiiinnnnnnssssshhhhhrrrrrddddlllcccuuummwwffggyyppbbvkjxqz";
