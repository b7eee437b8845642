//! The one way to the disk for what must last: every call that changes a file passes here.
//!
//! So that it can be shown what a crash, a full disk or a failing one leaves behind, a witness may
//! hear of every change before it is made, and refuse it. In the program there is none.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

/// What is about to happen to a file.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    Create(&'a Path),
    Append(&'a Path, &'a [u8]),
    Cut(&'a Path, u64),
    /// Space behind the end is set aside.
    Reserve(&'a Path, u64),
    Sync(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    SyncFolder(&'a Path),
}

/// Hears of changes before they are made, from any thread; an error stands for the disk's own.
pub trait Witness: Send + Sync {
    fn before(&self, change: Change<'_>) -> io::Result<()>;
}

/// The disk that an output stands on.
#[derive(Clone, Default)]
pub struct Disk {
    witness: Option<Arc<dyn Witness>>,
}

impl Disk {
    /// A disk whose every change a witness hears of first.
    pub fn watched(witness: Arc<dyn Witness>) -> Self {
        Disk {
            witness: Some(witness),
        }
    }

    fn tell(&self, change: Change<'_>) -> io::Result<()> {
        match &self.witness {
            Some(witness) => witness.before(change),
            None => Ok(()),
        }
    }

    /// Opens a file for appending, which must exist.
    pub fn open(&self, path: &Path) -> io::Result<DiskFile> {
        self.file(path, OpenOptions::new().read(true).append(true))
    }

    /// Opens a file for appending, and makes it where there is none.
    pub fn open_or_create(&self, path: &Path) -> io::Result<DiskFile> {
        self.tell(Change::Create(path))?;
        self.file(
            path,
            OpenOptions::new().read(true).append(true).create(true),
        )
    }

    /// Makes a file that nobody else may read, where there must be none.
    pub fn create_private(&self, path: &Path) -> io::Result<DiskFile> {
        self.tell(Change::Create(path))?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create_new(true).mode(0o600);
        self.file(path, &options)
    }

    fn file(&self, path: &Path, options: &OpenOptions) -> io::Result<DiskFile> {
        Ok(DiskFile {
            file: options.open(path)?,
            path: path.to_owned(),
            disk: self.clone(),
        })
    }

    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::Remove(path))?;
        std::fs::remove_file(path)
    }

    /// Removes a file that may be there.
    pub fn remove_if_any(&self, path: &Path) -> io::Result<()> {
        match self.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes a file that holds nothing, so that a run that was refused is not in the next one's
    /// way.
    pub fn remove_if_empty(&self, path: &Path) {
        if std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0) {
            // It is in nobody's way but the user's.
            let _ = self.remove(path);
        }
    }

    /// Makes a created, renamed or removed name durable.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let folder = folder(path);
        self.tell(Change::SyncFolder(folder))?;
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            // Some file systems have no such thing; there is nothing better to do on them.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// Replaces a file's content in one step: after a crash it is the old or the new one. A new
    /// file is for its owner alone; an old one keeps its permissions.
    pub fn replace(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        // A link stays one: what it leads to is replaced.
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // A name of its own and always the same, which the lock makes safe: what a killed process
        // left behind goes away with the next replacement.
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".tmp");
        let temporary = folder(path).join(name);
        self.remove_if_any(&temporary)?;
        let written = self.write_whole(&temporary, path, write);
        if written.is_err() {
            let _ = self.remove(&temporary);
        }
        written
    }

    fn write_whole(
        &self,
        temporary: &Path,
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let file = self.create_private(temporary)?;
        let mut buffered = BufWriter::with_capacity(64 << 10, &file);
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        if let Ok(old) = std::fs::metadata(path) {
            file.file.set_permissions(old.permissions())?;
        }
        file.sync()?;
        self.tell(Change::Rename(temporary, path))?;
        std::fs::rename(temporary, path)?;
        self.sync_folder(path)
    }
}

/// Returns the folder that a file's name stands in.
pub fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// What became of a file's name since the file was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Kept,
    /// The file has no name any more; what it holds is gone with its last reader.
    Deleted,
    /// The file has another name now, and perhaps another file has its.
    Moved,
}

/// A file that is open for appending.
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.disk.tell(Change::Append(&self.path, bytes))?;
        (&self.file).write_all(bytes)
    }

    /// Cuts the file to this length, and lets go of space that was set aside behind it.
    pub fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.tell(Change::Cut(&self.path, length))?;
        self.file.set_len(length)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.disk.tell(Change::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// Sets space behind the end aside without changing the file's length.
    pub fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.disk.tell(Change::Reserve(&self.path, bytes))?;
        match largest_file() < offset + bytes {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => reserve(&self.file, offset, bytes),
        }
    }

    /// Returns how many bytes the file system has left for this user.
    pub fn free(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.file)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Takes the file for this process alone, under whatever name it was opened; false where
    /// another process has it. Not every file system knows locks; the one beside is taken then.
    pub fn lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(true)
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Finds out whether the file is still the one that its name leads to.
    pub fn place(&self) -> io::Result<Place> {
        let ours = self.file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(Place::Kept),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ if ours.nlink() == 0 => Ok(Place::Deleted),
            _ => Ok(Place::Moved),
        }
    }
}

impl Write for &DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns how long a file of this process may become (`ulimit -f`).
pub fn largest_file() -> u64 {
    getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX)
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes)?)
}

/// Elsewhere space cannot be set aside without changing the length.
#[cfg(not(target_os = "linux"))]
fn reserve(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        std::fs::write(&path, "old").unwrap();
        let disk = Disk::default();
        let failed = disk.replace(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        disk.replace(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::write(folder.path().join(".c.tmp"), "left by a killed process").unwrap();
        disk.replace(&path, |out| out.write_all(b"newer")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"newer");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_one_when_its_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let written = Disk::default().replace(&link, |out| out.write_all(b"new"));
        written.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_an_old_one_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let write = || Disk::default().replace(&path, |out| out.write_all(b"x"));
        write().unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        write().unwrap();
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn a_file_knows_what_became_of_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let file = Disk::default().open_or_create(&path).unwrap();
        assert_eq!(file.place().unwrap(), Place::Kept);
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        assert_eq!(file.place().unwrap(), Place::Moved);
        std::fs::write(&path, "another").unwrap();
        assert_eq!(file.place().unwrap(), Place::Moved);
        std::fs::remove_file(folder.path().join("elsewhere")).unwrap();
        assert_eq!(file.place().unwrap(), Place::Deleted);
    }

    #[test]
    fn reserved_space_does_not_change_the_length_and_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let file = Disk::default().open_or_create(&path).unwrap();
        file.append(b"row\n").unwrap();
        let blocks = || std::fs::metadata(&path).unwrap().blocks();
        let before = blocks();
        if let Err(error) = file.reserve(4, 1 << 20) {
            println!("skipped: no space can be set aside here: {error}");
            return;
        }
        assert!(blocks() > before + 1000);
        assert_eq!(file.length().unwrap(), 4);
        file.cut(4).unwrap();
        assert!(blocks() < before + 1000);
        assert!(file.free().unwrap() > 0);
    }
}
