//! `kill -9` during uploads: what was acknowledged is there, whole, and of the rest nothing is left.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::media::Answer;

#[tokio::test]
async fn uploads_survive_a_kill_whole_or_not_at_all() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    let (rng, folder, site) = (Rng::seeded(SEED), TempDir::new().unwrap(), Site { port: free_port() });
    let mut server = serve_on(site.port, folder.path(), &[]);
    let session = Member::of(site.register("talker").await.unwrap());
    let held: Arc<Mutex<HashMap<String, Upload>>> = Arc::default();
    for kill in 0..if whole { 60 } else { 6 } {
        let at = format!("seed {SEED}, kill {kill}");
        let mut load = JoinSet::new();
        for _ in 0..TALKERS {
            load.spawn(talk(site, session.clone(), Rng::seeded(rng.below(u64::MAX)), held.clone()));
        }
        sleep(Duration::from_millis(20 + rng.below(400))).await;
        drop(server);
        load.join_all().await;
        assert_eq!(verify(folder.path()), "Nothing is damaged.\n", "{at}");
        server = serve_on(site.port, folder.path(), &[]);
        while !names(folder.path(), "incoming").is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        let mut now = std::mem::take(&mut *held.lock().unwrap());
        for (uri, Upload { body, answered }) in &mut now {
            if !*answered {
                // Whether it came to its end nobody knows; the URI is there in any case.
                let filled = fill(site, &session, uri, body).await.unwrap();
                assert!(matches!(filled.status, 200 | 409), "{at}: {uri}: {filled:?}");
                *answered = true;
            }
            let path = format!("/_matrix/client/v1/media/download/{uri}");
            let answer = exchange(site, &session, "GET", &path, b"").await.unwrap().ok();
            assert!(answer.body == *body, "{at}: {uri}");
        }
        *held.lock().unwrap() = now;
        for name in names(folder.path(), "content") {
            let content = fs::read(folder.path().join("media/content").join(&name)).unwrap();
            assert_eq!(blake3::hash(&content).to_hex().as_str(), name, "{at}");
        }
    }
    let count = held.lock().unwrap().len();
    assert!(count > 0, "no upload was acknowledged");
    writeln!(io::stdout(), "crash: {count} uploads held").unwrap();
}

/// What goes to a URI that was answered, and whether that the content is there was answered, too.
struct Upload {
    body: Vec<u8>,
    answered: bool,
}

/// Uploads files of any size until the server is gone, to URIs that are made with them and before.
async fn talk(site: Site, session: Member, rng: Rng, held: Arc<Mutex<HashMap<String, Upload>>>) {
    loop {
        let mut body = vec![0; rng.below(1 << rng.below(22)) as usize];
        rng.fill(&mut body);
        let uri = if rng.below(2) == 0 {
            let Ok(uri) = create(site, &session).await else { return };
            held.lock().unwrap().insert(uri.clone(), Upload { body: body.clone(), answered: false });
            let Ok(filled) = fill(site, &session, &uri, &body).await else { return };
            filled.ok();
            uri
        } else {
            let Ok(uri) = upload(site, &session, &body).await else { return };
            uri
        };
        held.lock().unwrap().insert(uri, Upload { body, answered: true });
    }
}

/// Uploads a file; gives its URI without the scheme.
pub(super) async fn upload(site: Site, who: &Member, body: &[u8]) -> io::Result<String> {
    Ok(uri(exchange(site, who, "POST", "/_matrix/media/v3/upload", body).await?))
}

/// Has a URI made for a file that comes later.
pub(super) async fn create(site: Site, who: &Member) -> io::Result<String> {
    Ok(uri(exchange(site, who, "POST", "/_matrix/media/v1/create", b"{}").await?))
}

/// Uploads that file.
pub(super) async fn fill(site: Site, who: &Member, uri: &str, body: &[u8]) -> io::Result<Answer> {
    exchange(site, who, "PUT", &format!("/_matrix/media/v3/upload/{uri}"), body).await
}

fn uri(answer: Answer) -> String {
    let made = answer.ok().json();
    made["content_uri"].as_str().unwrap().trim_start_matches("mxc://").to_owned()
}

/// Sends bytes to a server that may die meanwhile.
pub(super) async fn exchange(
    site: Site,
    who: &Member,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        who.token,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    if !response.windows(4).any(|window| window == b"\r\n\r\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let answer = Answer::parse(&response);
    if answer.headers["content-length"] != answer.body.len().to_string() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

pub(super) fn names(folder: &Path, kind: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.join("media").join(kind)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
