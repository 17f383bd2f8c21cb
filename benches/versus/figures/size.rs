//! The release binary on the disk.

use anyhow::Result;

use super::Figure;
use crate::{
    Scale,
    report::{Goal, Measured, Row},
    server::Server,
};

pub(crate) struct Size;

impl Figure for Size {
    const NAME: &'static str = "size";
    const ROWS: &'static [Row] = &[Row { what: "stripped release binary, MB", goal: Goal::AtMost(16.0) }];

    async fn measure(server: &mut Server, _scale: Scale) -> Result<Measured> {
        let bytes = server.binary().map(|binary| binary.metadata()).transpose()?.map(|file| file.len());
        Ok(Measured { values: vec![bytes.map(|bytes| bytes as f64 / 1e6)], notes: Vec::new() })
    }
}
