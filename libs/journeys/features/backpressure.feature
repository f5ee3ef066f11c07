@S-163 @S-220 @S-255
Feature: A full queue says so, and when to come back

  Rule: reject

    Background:
      Given a cluster with 1 slot and a queue of 2 that is reject when full

    Scenario: the newcomer is refused
      Given a task "first" that holds the slot
      When I submit the task "a"
      And I submit the task "b"
      And I submit the task "c"
      Then the answer is 429 with code "ADMISSION_REJECT"
      And its policy label is "reject"
      And headers and body name the same time to wait
      And the positions of "a, b" are "0, 1"

    Scenario: OpenAI's clients are never told to wait for more than half a minute
      Given a task "first" that holds the slot
      When I submit the task "a"
      And I submit the task "b"
      And I chat
      Then the answer is 429 with code "ADMISSION_REJECT"
      And its header "retry-after" is at most 30

    Scenario: what was refused was never taken in
      Given a task "first" that holds the slot
      When I submit the task "a"
      And I submit the task "b"
      And I submit the task "c"
      Then there are 0 jobs of the task "c"
      When I cancel the task "a"
      And I submit the task "c"
      Then the answer is 202

    Scenario: who waits already is told the truth meanwhile
      Given a task "first" that holds the slot
      When I submit the task "a"
      And I submit the task "b"
      And I submit the task "c"
      And I begin to follow the task "b"
      Then its first event is started at position 1

  Rule: drop-lru

    Background:
      Given a cluster with 1 slot and a queue of 2 that is drop-lru when full

    Scenario: the oldest batch task goes for a person who waits
      Given a task "first" that holds the slot
      When I submit the batch task "a"
      And I submit the batch task "b"
      And I submit the task "c"
      Then the answer is 202
      And task "a" is failed
      When I follow the task "a" to its end
      Then the last event is an error with code "QUEUE_FULL_DROP_LRU"
      And it is an error that a retry helps
      And task "b" stands at position 1

    Scenario: work that nobody waits for drives nobody out who waits
      Given a task "first" that holds the slot
      When I submit the task "a"
      And I submit the task "b"
      And I submit the batch task "c"
      Then the answer is 429 with code "QUEUE_FULL_DROP_LRU"
      And its policy label is "drop-lru"
      And headers and body name the same time to wait

  Rule: shed-low-priority

    Background:
      Given a cluster with 1 slot and a queue of 10 that is shed-low-priority when full

    Scenario: work that nobody waits for is refused while there is room for people
      Given a task "first" that holds the slot
      When I submit 9 batch tasks
      And I submit the batch task "b"
      Then the answer is 429 with code "ADMISSION_REJECT"
      And its policy label is "shed-low-priority"
      When I submit the task "i"
      Then the answer is 202
      And its "queue_position" is 0
