//! `kill -9` while a data folder is compacted: it is whole, and is compacted another time.

use std::process::Stdio;

use super::*;
use crate::process::command;

#[tokio::test]
async fn a_folder_survives_a_kill_while_it_is_compacted() {
    let whole = std::env::var("TAYBERRY_TESTS").is_ok_and(|length| length == "whole");
    let (rng, folder, site) = (Rng::seeded(SEED), TempDir::new().unwrap(), Site { port: free_port() });
    let mut server = serve_on(site.port, folder.path(), &[]);
    let mut ledger = site.settle().await;
    let path = folder.path().to_str().unwrap();
    for kill in 0..if whole { 60 } else { 6 } {
        let at = format!("seed {SEED}, kill {kill}");
        for message in 0..10 {
            let text = format!("{kill}-{message}");
            let said = site.say(&ledger.sessions[0], &ledger.room, &text).await.unwrap();
            ledger.events.insert(text, event_id(said));
        }
        assert!(Command::new("kill").arg(server.0.id().to_string()).status().unwrap().success());
        server.0.wait().unwrap();
        let mut compaction = command(&["compact", "--data-dir", path]).stdout(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(rng.below(60))).await;
        compaction.kill().unwrap();
        compaction.wait().unwrap();
        assert_eq!(verify(folder.path()), "Nothing is damaged.\n", "{at}");
        if rng.below(3) == 0 {
            assert!(run(&["compact", "--data-dir", path]).status.success(), "{at}");
            assert_eq!(verify(folder.path()), "Nothing is damaged.\n", "{at}");
        }
        drop(server);
        server = serve_on(site.port, folder.path(), &[]);
        assert!(
            !folder.path().join("events.new").exists() && !folder.path().join("records.sqlite.new").exists()
        );
        site.check(&mut ledger, &at).await;
    }
}
