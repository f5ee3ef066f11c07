@S-224 @S-255
Feature: What is not wanted any more ends

  Background:
    Given a cluster with 1 slot

  Scenario: a waiting task never runs
    Given a task "first" that holds the slot
    When I submit the task "a"
    And I cancel the task "a"
    Then the answer is 204
    And task "a" is canceled
    And the engines have seen nothing of task "a"

  Scenario: a running task stops, and no token follows
    Given a task "a" that holds the slot
    When I begin to follow the task "a"
    And I have seen 5 tokens
    And I cancel the task "a"
    Then the answer is 204
    And the stream ends as canceled, without a token more than is stored
    And the slot is free

  Scenario: twice is once
    Given a task "a" that holds the slot
    When I cancel the task "a"
    And I cancel the task "a"
    Then the answer is 204
    And task "a" is canceled

  Scenario: what has ended stays as it is
    When I submit the task "a"
    And the task "a" has ended
    And I cancel the task "a"
    Then the answer is 204
    And task "a" is completed

  Scenario: what never was is not found
    When I cancel a task that never was
    Then the answer is 404 with code "NOT_FOUND"

  Scenario: a chat ends when its caller hangs up
    When I begin a streamed chat of 2000 tokens
    And I hang up
    Then the job of the chat is canceled
    And the slot is free

  Scenario: a task goes on when its caller hangs up
    When I submit the task "a" of 200 tokens, 2 ms apart
    And I follow the task "a" for 5 tokens at the first gateway
    And I hang up
    Then task "a" is completed
