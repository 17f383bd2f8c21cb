//! Which threads a user follows. <https://github.com/matrix-org/matrix-spec-proposals/pull/4306>

use serde_json::{Value, json};

use super::{act, create, relating, say, tell};
use crate::rig::{Member, Reply, Rig};

struct Thread<'a> {
    rig: &'a Rig,
    room: &'a str,
    root: &'a str,
}

impl Thread<'_> {
    async fn ask(&self, who: &Member, method: &str, body: Value) -> Reply {
        let Self { rig, room, root } = self;
        let path =
            format!("/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{root}/subscription");
        rig.send_as(who, method, &path, body).await
    }

    async fn subscribe(&self, who: &Member, cause: Option<&str>) -> Reply {
        self.ask(who, "PUT", cause.map_or(json!({}), |cause| json!({"automatic": cause}))).await
    }

    async fn unsubscribe(&self, who: &Member) {
        assert_eq!(self.ask(who, "DELETE", Value::Null).await.ok(), json!({}));
    }

    /// Whether somebody's subscription is automatic; none if there is none.
    async fn automatic(&self, who: &Member) -> Option<bool> {
        let reply = self.ask(who, "GET", Value::Null).await;
        if reply.error() == (404, "M_NOT_FOUND") { None } else { reply.ok()["automatic"].as_bool() }
    }
}

#[tokio::test]
async fn a_subscription_is_automatic_until_somebody_wants_it() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let said = tell(&rig, &bob, &room, ("m.room.message", "t1"), relating("m.thread", &root, "alice!")).await;
    let edited =
        tell(&rig, &bob, &room, ("m.room.message", "t2"), relating("m.replace", &said, "you!")).await;
    let thread = Thread { rig: &rig, room: &room, root: &root };

    assert_eq!(thread.automatic(&alice).await, None);
    thread.unsubscribe(&alice).await;
    for cause in [&said, &edited] {
        thread.subscribe(&alice, Some(cause)).await.ok();
        assert_eq!(thread.automatic(&alice).await, Some(true));
    }
    assert_eq!(thread.automatic(&bob).await, None, "it is hers alone");
    thread.subscribe(&alice, None).await.ok();
    thread.subscribe(&alice, Some(&said)).await.ok();
    assert_eq!(thread.automatic(&alice).await, Some(false), "a mention takes nothing back");
    let rig = rig.again(|_| {}).await;
    let thread = Thread { rig: &rig, room: &room, root: &root };
    assert_eq!(thread.automatic(&alice).await, Some(false));
    thread.unsubscribe(&alice).await;
    thread.unsubscribe(&alice).await;
    assert_eq!(thread.automatic(&alice).await, None);
}

#[tokio::test]
async fn what_was_said_before_somebody_left_a_thread_does_not_bring_them_back() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({"preset": "public_chat"})).await;
    act(&rig, &bob, &room, "join", json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let reply = async |transaction| {
        tell(&rig, &bob, &room, ("m.room.message", transaction), relating("m.thread", &root, "hi")).await
    };
    let thread = Thread { rig: &rig, room: &room, root: &root };
    let (first, unread) = (reply("t1").await, reply("t2").await);
    thread.subscribe(&alice, Some(&first)).await.ok();
    thread.unsubscribe(&alice).await;
    for cause in [&first, &unread] {
        let refused = thread.subscribe(&alice, Some(cause)).await;
        assert_eq!(refused.error(), (409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"));
    }
    assert_eq!(thread.automatic(&alice).await, None);
    let later = reply("t3").await;
    thread.subscribe(&alice, Some(&later)).await.ok();
    assert_eq!(thread.automatic(&alice).await, Some(true));
    thread.unsubscribe(&alice).await;
    thread.subscribe(&alice, None).await.ok();
    assert_eq!(thread.automatic(&alice).await, Some(false), "by her own will she may return");
}

#[tokio::test]
async fn only_a_thread_that_is_there_to_see_is_followed() {
    let rig = Rig::start().await;
    let (alice, bob) = (rig.register("alice").await, rig.register("bob").await);
    let room = create(&rig, &alice, json!({})).await;
    let root = say(&rig, &alice, &room, "root", "t1").await;
    let other = say(&rig, &alice, &room, "other", "t2").await;
    let content = relating("m.thread", &root, "in it");
    let within = tell(&rig, &alice, &room, ("m.room.message", "t3"), content).await;
    let not_found = (404, "M_NOT_FOUND");
    let thread = Thread { rig: &rig, room: &room, root: &root };
    for cause in [root.as_str(), &other, "$unknown"] {
        let refused = thread.subscribe(&alice, Some(cause)).await;
        assert_eq!(refused.error(), (400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"), "{cause}");
    }
    for (who, root) in [(&alice, "$unknown"), (&alice, within.as_str()), (&bob, root.as_str())] {
        let thread = Thread { root, ..thread };
        for (method, body) in [("PUT", json!({})), ("DELETE", Value::Null), ("GET", Value::Null)] {
            assert_eq!(thread.ask(who, method, body).await.error(), not_found, "{method} {root}");
        }
    }
    let bad = thread.ask(&alice, "PUT", json!({"automatic": true})).await;
    assert_eq!(bad.error(), (400, "M_BAD_JSON"));
}
