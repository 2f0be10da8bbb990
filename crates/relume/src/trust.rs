//! Whose words root obeys: whoever can write what root runs, is root.

use relume_config::Config;

/// Why a config is not used, and what to do about it.
#[derive(Debug)]
pub(crate) struct Distrust {
    /// What is not trusted, and why.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: &'static str,
}

/// As root: whether nobody else can write the files of this config, or relume's own program.
///
/// # Errors
/// The first one that others can write, or that cannot be judged.
pub(crate) fn check(config: &Config) -> Result<(), Distrust> {
    if !relume_os::users::is_root() {
        return Ok(());
    }
    // One that was removed meanwhile cannot be written by anybody.
    let program = std::env::current_exe().ok().filter(|program| program.exists());
    for path in config.sources.iter().map(|path| path.as_path()).chain(program.as_deref()) {
        let why = match relume_os::files::check_trusted(path) {
            Ok(None) => continue,
            Ok(Some(distrust)) if distrust.path == path => distrust.reason,
            Ok(Some(distrust)) => distrust.to_string(),
            Err(error) => error.to_string(),
        };
        let message = format!("as root, relume does not use {}: {why}", path.display());
        let help =
            "Whoever can write it could run anything as root.\nMend that (chmod go-w), or say --trust.";
        return Err(Distrust { message, help });
    }
    Ok(())
}
