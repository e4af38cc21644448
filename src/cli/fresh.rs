//! New files for keys: written beside their place, then moved there whole. What exists is not replaced unasked.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::cli::Failure;

/// Mode of a file with a secret: its owner alone reads and changes it.
pub const SECRET: u32 = 0o600;
/// Mode of a file that everybody may read.
pub const PUBLIC: u32 = 0o644;

/// A file that is written, but not yet in its place; gone when dropped.
#[derive(Debug)]
pub struct Fresh {
    path: PathBuf,
    beside: PathBuf,
    replaces: bool,
}

impl Fresh {
    /// Writes `bytes` beside `path`, and to the disk. `replaces` is the user's permission to replace a file.
    ///
    /// # Errors
    /// When `path` exists and may not be replaced, or its directory cannot be written.
    pub fn write(path: &Path, bytes: &[u8], mode: u32, replaces: bool) -> Result<Self, Failure> {
        if !replaces && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let Some(name) = path.file_name() else {
            return Err(Failure::Usage(format!("{} is no file name", path.display())));
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let beside = path.with_file_name(hidden);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)
            .map_err(|error| unwritten(path, &error))?;
        let fresh = Self { path: path.to_owned(), beside, replaces };
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|error| unwritten(path, &error))?;
        Ok(fresh)
    }

    /// Moves it to its place.
    ///
    /// # Errors
    /// When something has come there meanwhile.
    pub fn place(self) -> Result<(), Failure> {
        let (from, to) = (&self.beside, &self.path);
        if !self.replaces {
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                // Not every file system can do it; for those it was looked before.
                Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => {}
                Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS) => return Err(exists(to)),
                outcome => return outcome.map_err(|error| unwritten(to, &error.into())),
            }
        }
        fs::rename(from, to).map_err(|error| unwritten(to, &error))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Not there any more when it is in its place.
        let _ = fs::remove_file(&self.beside);
    }
}

fn exists(path: &Path) -> Failure {
    Failure::Failed(format!("{} exists; --force replaces it", path.display()))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => ": use sudo, or another directory",
        io::ErrorKind::NotFound => ": make its directory first",
        _ => "",
    };
    Failure::Failed(format!("cannot write {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("tetherlet-fresh-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_and_closed_or_not_at_all() {
        let folder = folder("whole");
        let path = folder.join("key");
        let fresh = Fresh::write(&path, b"one", SECRET, false).unwrap();
        assert!(!path.exists());
        fresh.place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(Fresh::write(&folder.join("other"), b"two", SECRET, false).unwrap());
        assert_eq!(names(&folder), ["key"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_exists_stays_unless_the_user_says_otherwise() {
        let folder = folder("stays");
        let path = folder.join("key");
        let late = Fresh::write(&path, b"late", SECRET, false).unwrap();
        fs::write(&path, "old").unwrap();
        // Came between writing and moving.
        assert!(late.place().is_err());
        assert!(Fresh::write(&path, b"new", SECRET, false).is_err());
        assert_eq!((fs::read(&path).unwrap(), names(&folder).len()), (b"old".to_vec(), 1));
        Fresh::write(&path, b"new", SECRET, true).unwrap().place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // A link to nowhere is something too, and is never followed.
        let link = folder.join("link");
        symlink(folder.join("target"), &link).unwrap();
        assert!(Fresh::write(&link, b"new", SECRET, false).is_err());
        Fresh::write(&link, b"new", SECRET, true).unwrap().place().unwrap();
        assert!(!folder.join("target").exists());
        fs::remove_dir_all(folder).unwrap();
    }
}
