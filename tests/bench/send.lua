-- The request of the benchmark: one calculation.
wrk.method = "POST"
wrk.path = "/"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"kind":"message",' ..
  '"messageId":"0b5c9d8e-6f0a-4d3c-9b1e-2a7f4c6d8e90","role":"user","parts":[{"kind":"text",' ..
  '"text":"Calculate 25 * 4"}]},' ..
  '"configuration":{"acceptedOutputModes":["text/plain"],"blocking":true}}}'
