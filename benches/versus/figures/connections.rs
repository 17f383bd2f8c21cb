//! What a connection costs that nobody uses just now.

use anyhow::Result;

use super::Figure;
use crate::{
    Scale,
    client::Connection,
    meter::Resident,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Connections;

impl Figure for Connections {
    const NAME: &'static str = "connections";
    const ROWS: &'static [Row] =
        &[Row { what: "memory of each of 5,000 idle connections, KB", goal: Goal::AtMost(20.0) }];

    async fn measure(server: &mut Server, scale: Scale) -> Result<Measured> {
        server.start().await?;
        let before = Resident::of(server.pid()?)?;
        let mut open = Vec::new();
        for _ in 0..scale.of(5_000) {
            let mut connection = Connection::open(server.address).await?;
            // Each has been used, as a client's is that keeps it for later.
            connection.get("/_matrix/client/versions", None).await?;
            open.push(connection);
        }
        let after = Resident::of(server.pid()?)?;
        Ok([(after.own - before.own) * 1e3 / open.len() as f64].into())
    }
}
