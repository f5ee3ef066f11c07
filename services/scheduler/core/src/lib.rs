//! Decides which job runs where and when.
