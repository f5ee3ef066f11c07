//! Decides which job runs where and when, and sees it through.
