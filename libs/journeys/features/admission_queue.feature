@S-042 @S-047 @S-210 @S-220 @S-241 @S-255
Feature: Work is taken in, with a place in the queue

  Background:
    Given a cluster with 1 slot

  Scenario: a task that can start at once is told so
    When I submit the task "a"
    Then the answer is 202
    And its "queue_position" is 0
    And its "predicted_start_ms" is 0
    And its "backoff_ms" is 0
    And its header "location" is the path of task "a"
    And its header "x-orchion-queue-position" is "0"

  @S-045
  Scenario: positions rise with the load, and no later task is promised an earlier start
    Given a task "first" that holds the slot
    When I submit the task "b"
    And I submit the task "c"
    And I submit the task "d"
    Then the positions of "b, c, d" are "0, 1, 2"
    And the predicted starts of "b, c, d" do not fall

  @S-220
  Scenario: a person who waits goes before work that nobody waits for
    Given a task "first" that holds the slot
    When I submit the batch task "b"
    And I submit the task "i"
    Then its "queue_position" is 0
    And task "b" stands at position 1
    When I cancel the task "first"
    Then task "i" starts before task "b"

  Scenario: a correlation id comes back, and is made where none is given
    When I submit the task "a" with the correlation id "mine-1"
    Then its header "x-correlation-id" is "mine-1"
    When I submit the task "b"
    Then its header "x-correlation-id" is a UUID

  @S-047
  Scenario: the same id with the same body is the same task
    Given a task "first" that holds the slot
    When I submit the task "a"
    And I submit the task "a" again
    Then the answer is 202
    And there is 1 job of the task "a"
    When I submit the task "a" with another prompt
    Then the answer is 409 with code "CONFLICT"
    And its header "x-should-retry" is "false"

  @S-047
  Scenario: a chat that is asked again with its key is answered by the same job
    When I chat with the key "once"
    And I chat with the key "once" again
    Then both chats name the same job and have the same text
    When I chat with the key "once" and another prompt
    Then the answer is 409 with code "CONFLICT"

  Scenario: a prompt that no message holds is taken in
    When I submit the task "a" with a prompt of 400 KiB
    Then the answer is 202
    And task "a" is completed
