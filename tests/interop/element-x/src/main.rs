//! One device of one user, run by what Element X is made of: matrix-sdk and matrix-sdk-ui. It takes a command a line on
//! the standard input, {"id", "do", "with"}, and answers with {"id", "result"} or {"id", "error"} on the standard output,
//! in any order. What the libraries log goes to the standard error; RUST_LOG says how much.

mod call;
mod device;
mod encryption;
mod login;
mod notification;
mod rooms;
mod spaces;
mod timeline;
mod with;

use std::{io::stderr, sync::Arc};

use anyhow::{Context, Result, bail};
use device::Device;
use login::Login;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::OnceCell,
};
use tracing_subscriber::EnvFilter;
use with::With;

#[derive(Deserialize)]
struct Command {
    id: u64,
    #[serde(rename = "do")]
    name: String,
    with: With,
}

#[derive(Default)]
struct App {
    login: Login,
    /// Once somebody is logged in.
    device: OnceCell<Device>,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(stderr).with_env_filter(EnvFilter::from_default_env()).init();
    let app = Arc::new(App::default());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let Command { id, name, with } = serde_json::from_str(&line)?;
        let app = app.clone();
        tokio::spawn(async move {
            let answer = match app.run(&name, with).await {
                Ok(result) => json!({"id": id, "result": result}),
                Err(error) => json!({"id": id, "error": format!("{error:#}")}),
            };
            println!("{answer}");
        });
    }
    // Whatever still runs ends here, as an app does that is swiped away.
    std::process::exit(0)
}

impl App {
    async fn run(&self, name: &str, with: With) -> Result<Value> {
        let device = match name {
            "oauth_url" => return Ok(self.login.oauth_url(&with).await?.into()),
            "enter" | "oauth" | "return" => {
                let client = match name {
                    "enter" => login::enter(&with).await?,
                    "oauth" => self.login.oauth(&with).await?,
                    _ => login::return_to(&with).await?,
                };
                let device = self.device.get_or_try_init(|| Device::start(client)).await?;
                let session = device.client.session_meta().context("nobody is logged in")?;
                return Ok(json!({"user_id": session.user_id, "device_id": session.device_id}));
            }
            _ => self.device.get().context("nobody is logged in")?,
        };
        match name {
            "sleep" => device.sync.stop().await,
            "wake" => device.sync.start().await,
            "rooms" => return Ok(device.rooms().into()),
            "room" => return rooms::show(device, &with).await,
            "create_room" => return rooms::create(device, &with).await,
            "join" => rooms::join(device, &with).await?,
            "open" => timeline::open(device, &with).await?,
            "messages" => return timeline::messages(device, &with).await,
            "back" => return timeline::back(device, &with).await,
            "send" => timeline::send(device, &with).await?,
            "reply" => timeline::reply(device, &with).await?,
            "edit" => timeline::edit(device, &with).await?,
            "react" => timeline::react(device, &with).await?,
            "redact" => timeline::redact(device, &with).await?,
            "read" => timeline::read(device, &with).await?,
            "set_up_recovery" => return encryption::set_up_recovery(device).await,
            "recover" => encryption::recover(device, &with).await?,
            "secrets" => return encryption::secrets(device).await,
            "renew_session" => encryption::renew_session(device, &with).await?,
            "answer_verifications" => encryption::answer_verifications(device),
            "verify" => return encryption::verify(device, &with).await,
            "compared" => return Ok(device.compared().into()),
            "trust" => return encryption::trust(device, &with).await,
            "set_pusher" => notification::set_pusher(device, &with).await?,
            "notification" => return notification::fetch(device, &with).await,
            "spaces" => return spaces::joined(device).await,
            "space_rooms" => return spaces::rooms(device, &with).await,
            "add_to_space" => spaces::add(device, &with).await?,
            "join_call" => call::join(device, &with).await?,
            "update_call" => call::update(device, &with).await?,
            _ => bail!("no command {name}"),
        }
        Ok(Value::Null)
    }
}
