//! `[search]`: whether messages can be searched for.

use super::section::section;

section! {
    /// Whether messages can be searched for.
    pub struct Search {
        /// Whether what is said in rooms that aren't encrypted is indexed by its words, so that clients can search for it.
        /// The index takes about as much of the disk as the texts twice. It is made anew whenever it isn't there, and removed
        /// where this is off.
        enabled: bool = true,
    }
}
