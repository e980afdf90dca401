//! What signals do to the process.

#![allow(unsafe_code)]

/// A reader that goes away (`| head`) ends the program in silence, as it does others; Rust's default is a
/// failed write, which `println!` makes a panic of.
pub fn end_on_broken_pipe() {
    // SAFETY: the default action is no handler, so nothing runs that would have to be safe in a signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
