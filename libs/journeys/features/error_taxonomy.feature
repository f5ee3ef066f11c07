@S-047 @S-162 @S-255
Feature: What cannot be done is refused in the same words everywhere

  Background:
    Given a cluster with 1 slot that misses its nodes for 1 s

  Scenario Outline: over HTTP
    When I submit a task <that> over HTTP
    Then the answer is <status> with code "<code>"
    And it says whether a retry helps: <retry>

    Examples:
      | that                         | status | code           | retry |
      | without a prompt             | 400    | INVALID_PARAMS | no    |
      | with an id that is none      | 400    | INVALID_PARAMS | no    |
      | of a class that is none      | 400    | INVALID_PARAMS | no    |
      | with no tokens at all        | 400    | INVALID_PARAMS | no    |
      | with a deadline in the past  | 400    | DEADLINE_UNMET | no    |
      | for a model that never was   | 404    | NOT_FOUND      | no    |
      | with an id that is taken     | 409    | CONFLICT       | no    |

  Scenario Outline: over the bus
    When I submit a task <that> over the bus
    Then the bus answers with code "<code>"

    Examples:
      | that                         | code              |
      | of a workload that is none   | INVALID_PARAMS    |
      | of a class that is none      | INVALID_PARAMS    |
      | with no tokens at all        | INVALID_PARAMS    |
      | with a deadline in the past  | DEADLINE_UNMET    |
      | for a model that never was   | NOT_FOUND         |
      | with an id that is taken     | CONFLICT          |
      | with a body over the limit   | PAYLOAD_TOO_LARGE |

  Scenario: a model whose nodes are all gone
    Given every node is gone for good
    When I submit a task that is fine over HTTP
    Then the answer is 503 with code "POOL_UNAVAILABLE"
    And its header "retry-after" is a whole number of seconds
    When I submit a task that is fine over the bus
    Then the bus answers with code "POOL_UNAVAILABLE"

  Scenario: a store without room
    Given the store of jobs has no room
    When I submit the task "a"
    Then the answer is 503 with code "POOL_UNREADY"
    And its header "retry-after" is a whole number of seconds
    And there are 0 jobs of the task "a"
    When the store of jobs has room again
    And I submit the task "a"
    Then the answer is 202
    And task "a" is completed

  Scenario: a scheduler that is away
    Given there is no scheduler
    When I submit a task that is fine over HTTP
    Then the answer is 503 with code "POOL_UNREADY"
    And its header "retry-after" is a whole number of seconds

  Scenario: an engine that fails before its answer begins is asked again
    When I chat with an engine that fails 1 time before it answers
    Then the answer is 200

  Scenario: an engine that fails every time ends the chat soon and is named
    When I chat with an engine that always fails, for 5 s at most
    Then the answer is 503 with code "REPLICA_EXHAUSTED"
    And it names the engine's status 500

  Scenario: an error after the start closes the stream
    When I submit a task "a" whose engine breaks in mid-answer, always
    And I follow the task "a" to its end
    Then the last event is an error and nothing follows it
    And task "a" is failed
