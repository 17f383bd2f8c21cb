//! A disk of its own for one figure: an ext4 file system in a file, so that the kernel counts what reaches it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A mounted image; dropping it unmounts it.
pub(crate) struct Disk {
    /// Where it is mounted.
    pub(crate) folder: PathBuf,
    /// What the kernel counts of its device.
    statistics: PathBuf,
    _image: TempDir,
}

impl Disk {
    /// Makes and mounts an image within `folder`, which takes the rights of root.
    pub(crate) fn mount(folder: &Path) -> Result<Self> {
        let image = tempfile::tempdir_in(folder)?;
        let (file, folder) = (image.path().join("image"), image.path().join("disk"));
        fs::File::create(&file)?.set_len(BYTES)?;
        fs::create_dir(&folder)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&file))?;
        run(Command::new("mount").args(["-o", "loop"]).args([&file, &folder]))?;
        let device = fs::metadata(&folder)?.dev();
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
        let statistics = format!("/sys/dev/block/{major}:{minor}/stat").into();
        Ok(Self { folder, statistics, _image: image })
    }

    /// Bytes written to the device so far, with all that was still on its way.
    pub(crate) fn written(&self) -> Result<u64> {
        run(Command::new("sync").arg("--file-system").arg(&self.folder))?;
        let statistics = fs::read_to_string(&self.statistics)?;
        let sectors = statistics.split_ascii_whitespace().nth(6).context("no count of written sectors")?;
        Ok(sectors.parse::<u64>()? * 512)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.folder)).ok();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The file has holes: it takes no more than is written to it.
const BYTES: u64 = 4 << 30;
