//! Power cuts while files are uploaded. A preloaded library (`tests/crash/shim.c`) writes down what the server does to its
//! files and what it syncs; from points of that log a server starts on what a cut may leave ([`disk`]). What was
//! answered by then is there, and of the rest nothing half-written is served.
//!
//! The same must fail where one of the content repository's syncs is left out, as if the server had not asked for it.

#[path = "../../crash/disk.rs"]
mod disk;

use self::disk::{Disk, Kind, Step};
use super::{
    media::{create, exchange, fill, names, upload},
    *,
};

#[tokio::test]
async fn a_power_cut_takes_no_upload_that_was_answered() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    let work = Work::done().await;
    assert_eq!(work.first_loss(if whole { 200 } else { 24 }, |_| false).await, None);
    for (what, is_left_out) in [
        ("a file", (|path| path.starts_with("data/media/incoming/")) as fn(&str) -> bool),
        ("the names of files", |path| path == "data/media/content"),
        ("the names of their folders", |path| path == "data/media"),
        ("the name of the folder of all", |path| path == "data"),
    ] {
        let loss = work.first_loss(60, is_left_out).await;
        writeln!(io::stdout(), "power: without the sync of {what}: {loss:?}").unwrap();
        assert_ne!(loss, None, "{what}");
    }
}

/// A server's work, written down.
struct Work {
    site: Site,
    session: Member,
    log: Vec<u8>,
    /// How much of the log there was when the user had registered.
    begun: usize,
    uploads: Vec<Upload>,
}

/// An upload, and how much of the log there was when its URI was answered, and when its end was.
struct Upload {
    uri: String,
    body: Vec<u8>,
    created: usize,
    answered: usize,
}

impl Work {
    async fn done() -> Self {
        let folder = TempDir::new().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (root, log, shim) = (folder.join("disk"), folder.join("log"), folder.join("shim.so"));
        fs::create_dir(&root).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).status();
        assert!(compiled.unwrap().success());
        let preloaded = [("LD_PRELOAD", &shim), ("TAYBERRY_SHIM_LOG", &log), ("TAYBERRY_SHIM_ROOT", &root)];
        let preloaded = preloaded.map(|(name, path)| (name, path.to_str().unwrap()));
        let site = Site { port: free_port() };
        let server = serve_on(site.port, &root.join("data"), &preloaded);
        let logged = || fs::metadata(&log).unwrap().len() as usize;
        let session = Member::of(site.register("talker").await.unwrap());
        let begun = logged();
        let (rng, uploads) = (Rng::seeded(SEED), Mutex::new(Vec::new()));
        let talk = async |rng: Rng| {
            for number in 0..UPLOADS {
                // An empty file has no write that would be seen.
                let mut body = vec![0; 1 + rng.below(1 << (8 + rng.below(11))) as usize];
                rng.fill(&mut body);
                let (uri, created, answered) = if number % 2 == 0 {
                    let uri = create(site, &session).await.unwrap();
                    let created = logged();
                    fill(site, &session, &uri, &body).await.unwrap().ok();
                    (uri, created, logged())
                } else {
                    let uri = upload(site, &session, &body).await.unwrap();
                    (uri, logged(), logged())
                };
                uploads.lock().unwrap().push(Upload { uri, body, created, answered });
            }
        };
        let talkers = [(); TALKERS].map(|()| Rng::seeded(rng.below(u64::MAX)));
        let [first, second, third] = talkers;
        tokio::join!(talk(first), talk(second), talk(third));
        drop(server);
        let log = fs::read(log).unwrap();
        fs::remove_dir_all(folder).unwrap();
        Self { site, session, log, begun, uploads: uploads.into_inner().unwrap() }
    }

    /// Cuts the power at random points, where syncs of what `is_left_out` says are not done; tells what the first cut
    /// did that took anything.
    async fn first_loss(&self, cuts: usize, is_left_out: impl Fn(&str) -> bool) -> Option<String> {
        let steps = Step::read_all(&self.log);
        let (rng, mut disk, mut at, mut is_begun) = (Rng::seeded(SEED), Disk::default(), 0, false);
        let late = steps.iter().filter(|step| step.path.starts_with("data/media")).count();
        for (index, step) in steps.iter().enumerate() {
            // Twice as often in the content repository as anywhere else.
            let weight = if step.path.starts_with("data/media") { 2 } else { 1 };
            if at >= self.begun && rng.below((steps.len() + late) as u64) < (cuts * weight) as u64 {
                let after = TempDir::new().unwrap();
                disk.cut(after.path(), &rng);
                if let Err(loss) = self.examine(&after.path().join("data"), at).await {
                    let (step, all) = (step.name(), steps.len());
                    return Some(format!("seed {SEED}, cut before step {index} of {all}, {step}: {loss}"));
                }
            }
            at += length(step);
            is_begun |= step.path == "data/media";
            if !(is_begun && matches!(step.kind, Kind::Sync) && is_left_out(step.path)) {
                disk.take(step);
            }
        }
        None
    }

    /// Starts a server on what a cut left, and holds it against what was answered when the log had `at` bytes.
    async fn examine(&self, dir: &Path, at: usize) -> Result<(), String> {
        let _server = serve_on(self.site.port, dir, &[]);
        for Upload { uri, body, created, answered } in &self.uploads {
            let path = format!("/_matrix/client/v1/media/download/{uri}?timeout_ms=0");
            let answer = exchange(self.site, &self.session, "GET", &path, b"").await;
            let answer = answer.map_err(|error| format!("{uri} breaks off: {error}"))?;
            let (status, whole) = (answer.status, answer.body == *body);
            match status {
                200 if whole => {}
                404 if at < *created => {}
                504 if at < *answered => {}
                _ => return Err(format!("{uri} is answered with {status}, whole: {whole}")),
            }
        }
        for name in names(dir, "content") {
            let content = fs::read(dir.join("media/content").join(&name)).unwrap();
            if blake3::hash(&content).to_hex().as_str() != name {
                return Err(format!("{name} holds something else"));
            }
        }
        Ok(())
    }
}

/// How much of the log a step is.
fn length(step: &Step<'_>) -> usize {
    let data = match step.kind {
        Kind::Write { data, .. } => data.len(),
        Kind::Rename { to } => to.len(),
        Kind::Truncate { .. } | Kind::Sync | Kind::Unlink | Kind::Folder => 0,
    };
    20 + step.path.len() + data
}

/// Of each talker.
const UPLOADS: usize = 8;
