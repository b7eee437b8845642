//! A copy of what can be read only once, for commands that read it twice.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

/// A copy in a file of its own, gone with the process.
pub struct Spool {
    path: PathBuf,
    _file: File,
    /// Only where a file cannot be opened again without its name.
    _name: Option<TempPath>,
}

impl Spool {
    /// Copies an input that is no regular file; nothing where it can be read again as it is.
    pub fn of(input: &Path) -> io::Result<Option<Self>> {
        if input == Path::new("-") {
            return Self::copy(&mut io::stdin().lock()).map(Some);
        }
        let mut source = File::open(input)?;
        match source.metadata()?.is_file() {
            true => Ok(None),
            false => Self::copy(&mut source).map(Some),
        }
    }

    /// Copies a source to its end.
    fn copy(source: &mut impl Read) -> io::Result<Self> {
        let (mut file, name) = NamedTempFile::new()?.into_parts();
        io::copy(source, &mut file)?;
        file.rewind()?;
        // Without a name nothing of it stays behind, however the process ends.
        let nameless = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(match nameless.is_file() {
            true => Spool {
                path: nameless,
                _file: file,
                _name: None,
            },
            false => Spool {
                path: name.to_path_buf(),
                _file: file,
                _name: Some(name),
            },
        })
    }

    /// Returns where the copy can be opened, as often as needed.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_as_often_as_needed() {
        let spool = Spool::copy(&mut &b"twice"[..]).unwrap();
        for _ in 0..2 {
            assert_eq!(std::fs::read(spool.path()).unwrap(), b"twice");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_copy_has_no_name_that_could_stay_behind() {
        let spool = Spool::copy(&mut &b"x"[..]).unwrap();
        assert!(spool._name.is_none());
        let target = std::fs::read_link(spool.path()).unwrap();
        assert!(
            target.to_string_lossy().ends_with("(deleted)"),
            "{target:?}"
        );
    }
}
