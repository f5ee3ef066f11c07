@S-162 @S-210 @S-222 @S-255
Feature: An answer is followed as it grows, by anybody, from anywhere

  Background:
    Given a cluster with 2 slots and 2 gateways

  Scenario: started, tokens, end, in this order
    When I submit the task "a" of 200 tokens, 1 ms apart
    And I follow the task "a" to its end
    Then the events are started first, then 200 tokens in order, then one end
    And a metrics event follows the first token
    And no metrics event has an id

  @S-220
  Scenario: started says where the task stands, and metrics say that it moves
    Given a task "first" that holds a slot
    And a task "second" that holds a slot
    And a task "third" that waits
    When I submit the task "a"
    And I begin to follow the task "a"
    Then its first event is started at position 1
    When I cancel the task "third"
    Then a metrics event says position 0

  Scenario: who comes late sees everything
    When I submit the task "a" of 20 tokens
    And the task "a" has ended
    And I follow the task "a" to its end
    Then the events are started first, then 20 tokens in order, then one end

  Scenario: two people see the same
    When I submit the task "a" of 200 tokens, 2 ms apart
    And I follow the task "a" to its end at both gateways
    Then both have seen the same 200 tokens

  Scenario: a stream is resumed at another gateway where it was left
    When I submit the task "a" of 200 tokens, 2 ms apart
    And I follow the task "a" for 50 tokens at the first gateway
    And I go on following the task "a" at the second gateway
    Then I have seen 200 tokens in order, each once

  Scenario: a place that cannot exist is refused
    When I submit the task "a" of 20 tokens
    And the task "a" has ended
    And I follow the task "a" from event "9999"
    Then the answer is 400 with code "INVALID_PARAMS"
    When I follow the task "a" from event "not-a-number"
    Then the answer is 400 with code "INVALID_PARAMS"

  Scenario: the stream of a task that never was is not found
    When I follow a task that never was
    Then the answer is 404 with code "NOT_FOUND"

  Scenario: a waiting chat says where it stands
    Given a task "first" that holds a slot
    And a task "second" that holds a slot
    And a task "third" that waits
    When I begin a streamed chat
    And I cancel the task "third"
    Then the chat has a comment with its position
