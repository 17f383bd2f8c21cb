//! Power cuts. The page cache outlives a `kill -9`, so a preloaded library (`tests/crash/shim.c`) writes down each change
//! and each sync of a store at work. From points of that log the files are rebuilt as a cut may leave them
//! ([`disk`]), opened, and held against what had been acknowledged by then.
//!
//! The same must fail where syncs are left out: so the process at work can be told to open either engine without.
//! Every part runs in a process of its own, because LMDB may crash on files that it trusts.

#[path = "../../../tests/crash/disk.rs"]
mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::Command,
};

use heed::EnvFlags;
use rusqlite::Connection;
use serde_json::json;

use self::disk::{Disk, Kind, Step};
use super::open;
use crate::{
    base::{
        clock::Timestamp,
        ids::{DeviceNumber, EventNumber, Position, RoomNumber, UserNumber},
        rng::Rng,
    },
    room::fixture::{ALICE, World},
    store::{
        BackedUpKey, CrossSigningKey, OneTimeKey, Receipt, Store, StoreError, Transaction, View,
        events::{
            Checked, Endpoint, TransactionIdentity,
            fixture::{Outcome, Rig},
        },
        writer::Message,
    },
};

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    match env::var(PART).as_deref() {
        Ok(WORK) => return work(),
        Ok(EXAMINE) => return examine(),
        _ => {}
    }
    let whole = env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    assert_eq!(first_loss("", if whole { 200 } else { 40 }), None);
}

#[test]
fn it_would_without_the_syncs_of_lmdb() {
    assert_ne!(first_loss(NO_SYNC, 40), None);
}

#[test]
fn it_would_without_the_sync_of_each_commit_of_sqlite() {
    assert_ne!(first_loss(NORMAL, 40), None);
}

/// Leaves out LMDB's syncs, in a process that was told to.
pub(in crate::store) fn weakened_flags() -> EnvFlags {
    if env::var(WEAKENED).as_deref() == Ok(NO_SYNC) { EnvFlags::NO_SYNC } else { EnvFlags::empty() }
}

/// Leaves out the sync of each commit, in a process that was told to.
pub(in crate::store) fn weaken(sql: &Connection) -> rusqlite::Result<()> {
    if env::var(WEAKENED).as_deref() == Ok(NORMAL) {
        sql.pragma_update(None, "synchronous", "normal")?;
    }
    Ok(())
}

/// Lets a store work, cuts the power at random points of that, and tells what the first cut did that took anything.
fn first_loss(weakened: &str, cuts: usize) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let (root, log, shim) = (folder.join("disk"), folder.join("log"), folder.join("shim.so"));
    fs::create_dir(&root).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).status();
    assert!(compiled.unwrap().success());
    let worked = part(WORK)
        .envs([("LD_PRELOAD", &shim), ("TAYBERRY_SHIM_LOG", &log), ("TAYBERRY_SHIM_ROOT", &root)])
        .env("TMPDIR", &root)
        .env(WEAKENED, weakened)
        .output()
        .unwrap();
    assert!(worked.status.success(), "{}", String::from_utf8_lossy(&worked.stderr));

    let log = fs::read(log).unwrap();
    let steps = Step::read_all(&log);
    let rng = Rng::seeded(SEED);
    let points = cut_points(&steps, cuts, &rng);
    let (mut disk, mut acknowledged, mut struck) = (Disk::default(), Vec::new(), BTreeMap::new());
    for (index, step) in steps.iter().enumerate() {
        if points.contains(&index) {
            let after = tempfile::tempdir().unwrap();
            disk.cut(after.path(), &rng);
            fs::write(after.path().join(ACKNOWLEDGED), &acknowledged).unwrap();
            let examined = part(EXAMINE).env("TMPDIR", after.path()).output().unwrap();
            if !examined.status.success() {
                let (step, all, status) = (step.name(), steps.len(), examined.status);
                let why = String::from_utf8_lossy(&examined.stderr);
                return Some(format!(
                    "seed {SEED}, cut before step {index} of {all}, {step}: {status}, {why}"
                ));
            }
            *struck.entry(step.name()).or_insert(0) += 1;
        }
        match step.kind {
            Kind::Write { data, .. } if step.path == ACKNOWLEDGED => acknowledged.extend(data),
            _ => disk.take(step),
        }
    }
    writeln!(io::stdout(), "power: {} cuts in {} steps, before {struck:?}", points.len(), steps.len())
        .unwrap();
    None
}

/// A quarter of the points anywhere, the others spread over all kinds of steps, so that rare ones are struck too.
fn cut_points(steps: &[Step<'_>], cuts: usize, rng: &Rng) -> BTreeSet<usize> {
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let matters =
        |step: &Step<'_>| [ACKNOWLEDGED, "-shm", "lock.mdb"].iter().all(|end| !step.path.ends_with(end));
    for (index, step) in steps.iter().enumerate().filter(|(_, step)| matters(step)) {
        kinds.entry(step.name()).or_default().push(index);
    }
    let draw = |from: &[usize]| from[rng.below(from.len() as u64) as usize];
    let mut points: BTreeSet<usize> =
        kinds.values().cycle().take(cuts * 3 / 4).map(|kind| draw(kind)).collect();
    while points.len() < cuts {
        points.insert(rng.below(steps.len() as u64) as usize);
    }
    points
}

/// This very test, as another part of itself.
fn part(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    let name = format!("{}::a_power_cut_takes_nothing_that_was_acknowledged", module_path!());
    command.args(["--exact", name.split_once("::").unwrap().1, "--nocapture"]).env(PART, part);
    command
}

/// Puts events and records by every path there is, and acknowledges each in a file that the shim sees too.
fn work() {
    let mut acknowledged = File::create(env::temp_dir().join(ACKNOWLEDGED)).unwrap();
    // In one write, so that no cut falls into a line.
    let mut acknowledge = |what: String| acknowledged.write_all(what.as_bytes()).unwrap();
    let (mut world, mut last) = World::new("12");
    let mut rig = Rig::of(&world);
    for number in 0..EVENTS {
        // State now and then, for the trie of states.
        let (kind, key) =
            if number % 4 == 0 { ("org.example.state", Some("")) } else { ("m.room.message", None) };
        let object = world.make(ALICE, &[&last], kind, key, json!({ "number": number }));
        let Outcome::Accepted(event) = rig.arrive_by(&object, Some(transaction(number))) else {
            panic!("event {number} was not accepted");
        };
        last = world.id_of(&object);
        world.arrive(object);
        acknowledge(format!("event {number} {} {} {last}\n", rig.room.0, event.0));
        if number % 7 == 0 {
            rig.write(move |tx| add_account(tx, &format!("account-{number}")));
            acknowledge(format!("account {number}\n"));
            rig.write(move |tx| write_records(tx, &format!("account-{number}")));
            acknowledge(format!("written {number}\n"));
            rig.write(move |tx| change_records(tx, &format!("account-{number}")));
            acknowledge(format!("changed {number}\n"));
        }
        match number {
            // Little checkpoints first, whose runs of ids merge; then a large one of several slices.
            0..FREQUENT if number % 20 == 19 => rig.store.0.queue.send(Message::Checkpoint).unwrap(),
            FREQUENT | LARGE => rig = rig.reopened(),
            _ => {}
        }
    }
}

fn transaction(number: u64) -> TransactionIdentity {
    TransactionIdentity { device: DeviceNumber(1), endpoint: Endpoint::Send, id: number.to_string() }
}

fn add_account(tx: &mut Transaction<'_>, name: &str) -> Result<(), StoreError> {
    let user = tx.intern_user(&ruma::UserId::parse(format!("@{name}:one.example")).unwrap())?;
    tx.create_account(user, name, None, false)?;
    tx.open_device(user, "DEVICE", None).map(drop)
}

/// Two messages to the account's device and two of its one-time keys; its own keys, its fallback key, a key in a backup,
/// account data, a receipt.
fn write_records(tx: &mut Transaction<'_>, name: &str) -> Result<(), StoreError> {
    let account = tx.account(name)?.unwrap();
    let device = tx.device(account.number, "DEVICE")?.unwrap().number;
    for content in ["{}", CHANGED] {
        tx.add_to_device(device, "@alice:one.example", "org.example.note", content)?;
        tx.add_one_time_key(device, &one_time_key(content))?;
    }
    tx.create_key_backup(account.number, "org.example", "{}")?;
    let backup = tx.newest_key_backup(account.number)?.unwrap();
    tx.set_backed_up_key(&backup, &key("{}"))?;
    set_records(tx, (account.number, device), "{}", Position(1))
}

/// Sets those of the records of which there is one.
fn set_records(
    tx: &mut Transaction<'_>,
    (user, device): (UserNumber, DeviceNumber),
    text: &str,
    anchor: Position,
) -> Result<(), StoreError> {
    tx.set_device_keys(user, device, "DEVICE", text)?;
    tx.set_fallback_key(device, &one_time_key(text))?;
    let (usage, id) = ("master".to_owned(), "key".to_owned());
    tx.set_cross_signing_key(user, &CrossSigningKey { usage, id, key: text.to_owned() })?;
    let receipt = Receipt {
        room: RoomNumber(1),
        user,
        kind: "m.read".to_owned(),
        thread: String::new(),
        event_id: text.to_owned(),
        anchor,
        sent_at: Timestamp(0),
    };
    assert!(tx.set_receipt(&receipt)?);
    tx.set_account_data(user, None, "org.example", text)
}

/// Removes the first message, gives out the first key, and replaces the others.
fn change_records(tx: &mut Transaction<'_>, name: &str) -> Result<(), StoreError> {
    let account = tx.account(name)?.unwrap();
    let device = tx.device(account.number, "DEVICE")?.unwrap().number;
    let first = tx.to_device_since(device, Position(0))?.0[0].position;
    tx.remove_to_device(device, first)?;
    assert_eq!(tx.claim_one_time_key(device, "org.example")?, Some(one_time_key("{}")));
    let backup = tx.newest_key_backup(account.number)?.unwrap();
    tx.set_backed_up_key(&backup, &key(CHANGED))?;
    set_records(tx, (account.number, device), CHANGED, Position(2))
}

/// The contents of an account's messages and one-time keys, and of those records of which there is one.
fn records(view: &View<'_>, name: &str) -> Result<[Vec<String>; 8], StoreError> {
    let account = view.account(name)?.unwrap();
    let device = view.device(account.number, "DEVICE")?.unwrap().number;
    let messages = view.to_device_since(device, Position(0))?.0;
    let backup = view.newest_key_backup(account.number)?.unwrap();
    let keys = view.backed_up_keys(&backup, None, ("", ""), 9)?;
    let data = view.account_data(account.number, None, "org.example")?;
    let mut fallback = view.sql().prepare("SELECT key FROM fallback_keys WHERE device = ?1")?;
    let fallback = fallback.query_map([device], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let contents = messages.into_iter().map(|message| message.content).collect();
    let mut one_time_keys = Vec::new();
    for id in ["{}", CHANGED] {
        one_time_keys.extend(view.one_time_key(device, "org.example", id)?);
    }
    Ok([
        contents,
        one_time_keys,
        keys.into_iter().map(|key| key.data).collect(),
        data.into_iter().collect(),
        view.keys_of_device(device)?.into_iter().collect(),
        fallback,
        view.cross_signing_keys(account.number)?.into_iter().map(|key| key.key).collect(),
        view.receipts_of(account.number, RoomNumber(1))?
            .into_iter()
            .map(|receipt| receipt.event_id)
            .collect(),
    ])
}

fn one_time_key(text: &str) -> OneTimeKey {
    OneTimeKey { algorithm: "org.example".into(), id: text.into(), key: text.into() }
}

fn key(data: &str) -> BackedUpKey {
    BackedUpKey { room_id: "!room:one.example".into(), session_id: "session".into(), data: data.into() }
}

/// Opens what a cut left, twice, so that everything has moved to LMDB by the second time, and finds it whole.
fn examine() {
    let folder = env::temp_dir();
    let acknowledged = fs::read_to_string(folder.join(ACKNOWLEDGED)).unwrap();
    let data = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let data = data.unwrap_or_else(|| folder.join("data"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for time in ["first", "second"] {
        let store: Store = open(&data);
        let acknowledged = acknowledged.clone();
        runtime.block_on(store.read(move |view| check(view, &acknowledged))).unwrap();
        runtime.block_on(store.write(move |tx| add_account(tx, time))).unwrap();
        store.close();
    }
}

fn check(view: &View<'_>, acknowledged: &str) -> Result<(), StoreError> {
    let mut findings = Vec::new();
    let mut part = Some(Checked::default());
    while let Some(from) = part {
        part = view.check_events(from, 1_000, &mut |finding| findings.push(finding))?;
    }
    assert_eq!(findings, []);
    let sound: String = view.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(sound, "ok");
    for line in acknowledged.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["event", number, room, event, id] => {
                let room = RoomNumber(room.parse().unwrap());
                let event = EventNumber(event.parse().unwrap());
                let TransactionIdentity { device, endpoint, id: transaction } =
                    transaction(number.parse().unwrap());
                let sent = view.event_of_transaction(room, device, endpoint, &transaction)?;
                assert_eq!(sent, Some(event), "{line}");
                assert_eq!(view.event(room, event)?.pdu.event_id(), id, "{line}");
            }
            ["account", number] => {
                let account = view.account(&format!("account-{number}"))?;
                let account = account.unwrap_or_else(|| panic!("lost: {line}"));
                assert!(view.device(account.number, "DEVICE")?.is_some(), "{line}");
            }
            ["written", number] => {
                let written = ["{}", CHANGED].map(ToOwned::to_owned);
                let [messages, one_time_keys, ones @ ..] = records(view, &format!("account-{number}"))?;
                for kept in [messages, one_time_keys] {
                    assert!(kept == written || kept == written[1..], "{line}: {kept:?}");
                }
                for kept in ones {
                    assert!(kept.len() == 1 && written.contains(&kept[0]), "{line}: {kept:?}");
                }
            }
            ["changed", number] => {
                let changed = [CHANGED.to_owned()];
                let records = records(view, &format!("account-{number}"))?;
                assert!(records.iter().all(|kept| *kept == changed), "{line}: {records:?}");
            }
            _ => panic!("{line}"),
        }
    }
    Ok(())
}

/// What the records of an account say in the end.
const CHANGED: &str = r#"{"is":"changed"}"#;
/// Which part of the test a process is.
const PART: &str = "TAYBERRY_POWER_PART";
const WORK: &str = "work";
const EXAMINE: &str = "examine";
/// What a process at work leaves out.
const WEAKENED: &str = "TAYBERRY_POWER_WEAKENED";
const NO_SYNC: &str = "lmdb";
const NORMAL: &str = "sqlite";
/// The file of acknowledgements, which no cut takes.
const ACKNOWLEDGED: &str = "acknowledged";
const SEED: u64 = 5;
const EVENTS: u64 = 450;
const FREQUENT: u64 = 200;
const LARGE: u64 = 420;
