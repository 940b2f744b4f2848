//! What is sent: one lead becomes one request, and what came back becomes one judgement.
//!
//! # How it works
//!
//! A request is made of an [`Event`](crate::event::Event), which holds everything that the lead says, and of
//! what the tenant saved. Four steps, none of which does any I/O:
//!
//! 1. **[`body`]** – the default body ([`payload`]), or the tenant's [`template`] with the lead's values put into
//!    its strings. A template is parsed when it is saved, so that at the send nothing can go wrong any more but its length, and
//!    no value of a visitor's can break the JSON.
//! 2. **signatures** – over exactly those bytes ([`signature`]): `X-Wilow-Signature`, which any verifier of
//!    GitHub's webhooks checks, and the three headers of Standard Webhooks.
//! 3. **headers** – ours first, then the tenant's ([`headers`]), which were held against a list when they were
//!    saved and can neither replace ours nor change how the message is framed.
//! 4. **judgement** – of the answer ([`answer`]) only the status counts, and the `Location` of Google's Apps
//!    Script. What is kept of an answer is chosen so that nothing personal can come back through it.
//!
//! The body that is signed is the body that is sent: nothing parses or prints it again in between.
//!
//! What is refused is refused at save, every problem at once and each with its place, so that the person who
//! wrote it is still there to mend it.

pub mod answer;
pub mod body;
pub mod client;
pub mod diagnosis;
mod excerpt;
pub mod headers;
pub mod hints;
pub mod json;
mod kept;
pub mod payload;
pub mod presets;
mod reach;
mod redirect;
pub mod request;
pub mod signature;
pub mod template;
pub mod tls;
pub mod trace;
