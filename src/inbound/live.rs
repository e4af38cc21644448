//! A part of the front that a reload can exchange while requests use it.
//!
//! Whoever has begun with a value keeps it until it is done; the next one gets the new value. Getting it counts one
//! reference and copies nothing.

use std::cell::RefCell;
use std::rc::Rc;

/// A value that is replaced as a whole.
#[derive(Debug, Default)]
pub struct Live<T>(RefCell<Rc<T>>);

impl<T> Live<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(RefCell::new(Rc::new(value)))
    }

    /// The value in force.
    pub fn get(&self) -> Rc<T> {
        self.0.borrow().clone()
    }

    /// Puts `value` in force.
    pub fn replace(&self, value: T) {
        self.0.replace(Rc::new(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_begun_with_a_value_keeps_it() {
        let live = Live::new(1);
        let begun = live.get();
        live.replace(2);
        assert_eq!((*begun, *live.get()), (1, 2));
    }
}
