@S-042 @S-224
Feature: Nothing runs longer than it may

  Background:
    Given a cluster with 1 slot whose engines may be silent for 1 s

  Scenario: an engine that hangs in mid-answer is left
    When I submit a task "a" whose engine hangs in mid-answer, once
    Then task "a" is completed
    And the slot is free

  Scenario: a task whose engines all hang ends
    When I submit a task "a" whose engine hangs in mid-answer, always
    Then task "a" is failed
    And the slot is free

  Scenario: a deadline ends what runs
    When I submit the task "a" of 5000 tokens, 5 ms apart, due in 1500 ms
    And I follow the task "a" to its end
    Then the last event is an error with code "DEADLINE_UNMET"
    And the slot is free

  Scenario: a deadline ends what waits
    Given a task "first" that holds the slot
    When I submit the task "a" of 5 tokens, 1 ms apart, due in 1500 ms
    Then task "a" is failed

  Scenario: a prompt that no context holds is refused at once
    When I submit the task "a" with a prompt of 12000 KiB
    Then the answer is 400 with code "INVALID_PARAMS"
    And there are 0 jobs of the task "a"

  Scenario: more tokens than any context holds are refused at once
    When I submit the task "a" with a limit of 2000000 tokens
    Then the answer is 400 with code "INVALID_PARAMS"
    And there are 0 jobs of the task "a"
