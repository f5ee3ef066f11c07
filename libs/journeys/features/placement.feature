@S-049 @S-187 @S-230
Feature: A task runs where it may, and says why there

  Rule: least loaded

    Background:
      Given a cluster with 2 nodes of 2 slots

    Scenario: a task that is pinned to a node runs there, however busy it is
      Given 2 tasks pinned to "b" that hold their slots
      When I submit a task "p" pinned to "b"
      Then the answer is 202
      And task "p" stands at position 0
      And the explanation of "p" says that it is pinned and has no capacity
      When the tasks that hold slots are canceled
      Then task "p" is completed
      And task "p" ran on "b"

    Scenario: a task that prefers a node falls back when that is full
      Given 2 tasks pinned to "a" that hold their slots
      When I submit a task "p" that prefers "a"
      Then task "p" is completed
      And task "p" ran on "b"

    Scenario: a task that avoids a node does not run there
      When I submit a task "p" that avoids "a"
      Then task "p" is completed
      And task "p" ran on "b"
      And the explanation of "p" names the filter "avoid"

    Scenario: a pin to a place that never was is refused
      When I submit a task "p" pinned to "nowhere"
      Then the answer is 400 with code "INVALID_PARAMS"

    Scenario: the load is spread
      Given a task "first" that holds a slot
      When I submit the task "second" of 2000 tokens, 5 ms apart
      Then task "second" is running
      And the tasks "first, second" run on two nodes

  Rule: round-robin

    Background:
      Given a cluster with 3 nodes in turn

    Scenario: nine tasks over three nodes are three each
      When I submit 9 tasks, one after the other
      Then each node has run 3 of them
