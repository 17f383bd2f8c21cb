//! Backups as large as they may be, downloaded by clients that take their time or never come to the end.

use tayberry::base::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_of_the_largest_backup() {
    let _turn = TURN.lock().await;
    let flooded = Flooded::start().await;
    let site = flooded.site;
    let mallory = site.register([127, 0, 1, 1], "mallory").await;
    let version = json!({"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {}});
    site.ask([127, 0, 1, 1], "POST", "/room_keys/version", Some(&mallory), version).await.ok();
    let key = json!({"is_verified": true, "first_message_index": 0, "forwarded_count": 0,
                     "session_data": {"ciphertext": "x".repeat(KEY_BYTES)}});
    let fill = async {
        for number in 0.. {
            let sessions: serde_json::Map<_, _> =
                (0..KEYS).map(|key_number| (format!("{number}-{key_number}"), key.clone())).collect();
            let (path, body) = ("/room_keys/keys/!room:x?version=1", json!({"sessions": sessions}));
            let reply = site.ask([127, 0, 1, 1], "PUT", path, Some(&mallory), body).await;
            if reply.status != 200 {
                return (number, reply);
            }
        }
        unreachable!("a backup has an end")
    };
    let (requests, refused) = flooded.through(fill).await;
    assert_refused(&[refused], 403, "M_FORBIDDEN");
    let bytes = requests * KEYS * KEY_BYTES;
    assert!(bytes as u64 > limits::BACKUP_BYTES / 10 * 9, "{bytes} bytes are kept");

    let download = async {
        let mut set = JoinSet::new();
        for number in 0..DOWNLOADS {
            let token = mallory.token.clone();
            set.spawn(async move {
                let mut stream = site.connect([127, 0, 1, number]).await;
                let head = "GET /_matrix/client/v3/room_keys/keys?version=1 HTTP/1.1\r\nhost: x\r\nconnection: close";
                // Those who take nothing have it compressed, too.
                let coding = if number % 2 == 0 { "\r\naccept-encoding: gzip" } else { "" };
                let request = format!("{head}{coding}\r\nauthorization: Bearer {token}\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                sleep(Duration::from_secs(2)).await;
                if number % 2 == 0 {
                    return None;
                }
                let (mut buffer, mut length) = (vec![0; 256 << 10], 0);
                loop {
                    match stream.read(&mut buffer).await.unwrap() {
                        0 => return Some(length),
                        read => length += read,
                    }
                }
            });
        }
        set.join_all().await
    };
    for length in flooded.through(download).await.into_iter().flatten() {
        assert!(length > bytes, "{length} bytes of {bytes}");
    }
    flooded.end();
}

const KEYS: usize = 250;
const KEY_BYTES: usize = 7_800;
const DOWNLOADS: u8 = 8;
