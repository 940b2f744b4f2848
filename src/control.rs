//! What is done by hand: a tenant's endpoint changed, tried and previewed, its deliveries looked up and sent again. One
//! code for both surfaces, the command line and the admin API; each says it in its own words.

pub mod again;
pub mod draft;
pub mod endpoint;
pub mod filter;
pub mod hint;
pub mod keys;
pub mod meaning;
pub mod preset;
pub mod preview;
pub mod time;
pub mod token;
pub mod trial;

/// Whether `c` has no shape of its own: a control character, or one that formats, hides or turns what follows (Unicode's
/// categories Cc, Cf, Zl and Zp). Two ids that differ in nothing else look the same.
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{AD}' | '\u{600}'..='\u{605}' | '\u{61C}' | '\u{6DD}' | '\u{70F}' | '\u{890}'..='\u{891}'
            | '\u{8E2}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{110BD}' | '\u{110CD}'
            | '\u{13430}'..='\u{1343F}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0001}' | '\u{E0020}'..='\u{E007F}')
}
