"""Asks a gateway with the `openai` package; prints a line for each thing that works.

Usage: openai_client.py URL SHORT LONG, where SHORT and LONG are prompts for the
mock engine: for an answer of twelve tokens, and for one that takes a while.
"""

import sys

import openai

url, short, long = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)


def messages(prompt):
    return [{"role": "user", "content": prompt}]


assert [model.id for model in client.models.list()] == ["mock"]
print("lists the model")

pieces, usage, reasons = [], None, []
for chunk in client.chat.completions.create(
    model="mock",
    messages=messages(short),
    stream=True,
    stream_options={"include_usage": True},
):
    assert chunk.object == "chat.completion.chunk", chunk
    for choice in chunk.choices:
        pieces.append(choice.delta.content or "")
        if choice.finish_reason:
            reasons.append(choice.finish_reason)
    usage = chunk.usage or usage
indexes = [int(token.split(".")[1]) for token in "".join(pieces).split()]
assert indexes == list(range(12)), indexes
assert reasons == ["stop"], reasons
assert usage.completion_tokens == 12, usage
assert usage.total_tokens == usage.prompt_tokens + 12, usage
print("streams a chat with its usage")

answer = client.chat.completions.create(model="mock", messages=messages(short))
assert len(answer.choices[0].message.content.split()) == 12, answer
assert answer.choices[0].finish_reason == "stop", answer
assert answer.usage.completion_tokens == 12, answer
print("answers a whole chat with its usage")

try:
    client.chat.completions.create(model="mick", messages=messages(short))
    raise SystemExit("a wrong model was accepted")
except openai.NotFoundError as error:
    assert error.status_code == 404 and error.param == "model", error.body
    assert "mock" in error.message, error.message
print("raises NotFoundError for a wrong model")

try:
    client.chat.completions.create(model="mock", messages=[])
    raise SystemExit("an empty list of messages was accepted")
except openai.BadRequestError as error:
    assert error.status_code == 400 and error.param == "messages", error.body
print("raises BadRequestError for an empty list of messages")

stream = client.chat.completions.create(model="mock", messages=messages(long), stream=True)
for number, chunk in enumerate(stream):
    if number == 5:
        break
stream.close()
print("closes a stream")
