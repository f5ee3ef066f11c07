//! The starter model: written once into a cache folder, then reused.

use std::path::{Path, PathBuf};

use crate::digest;
use crate::synth::{self, Spec};

/// The name under which the starter model is served.
pub const NAME: &str = "orchion-starter";

/// The digest of the starter model's file. The same bytes come out on every machine.
pub const DIGEST: &str = "b2a3183bf4347f82fc310f6d95a9ef9a4206a2cccac30a7b1dc1440d5b47c604";

/// The path of the starter model under `folder`; written first if it is missing or damaged.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn ensure(folder: &Path) -> Result<PathBuf, synth::Error> {
    let path = folder.join(format!("{NAME}-{}.gguf", &DIGEST[..12]));
    let whole = digest::of_file(&path).is_ok_and(|digest| digest == DIGEST);
    if !whole {
        Spec::default().write(&path)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_is_written_once_and_repaired_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = ensure(&folder.path().join("cache")).unwrap();
        assert_eq!(digest::of_file(&path).unwrap(), DIGEST);
        let written = fs::metadata(&path).unwrap().modified().unwrap();

        assert_eq!(ensure(&folder.path().join("cache")).unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);

        fs::write(&path, b"GGUF half").unwrap();
        ensure(&folder.path().join("cache")).unwrap();
        assert_eq!(digest::of_file(&path).unwrap(), DIGEST);
        assert_eq!(
            fs::read_dir(folder.path().join("cache")).unwrap().count(),
            1
        );
    }
}
