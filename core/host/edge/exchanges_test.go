package edge_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const (
	service   = "/edge.test.v1.EchoService/"
	echoPath  = service + "Echo"
	readPath  = service + "Read"
	countPath = service + "Count"
)

// zero is the echo of an empty request: zeros are written, what is not there is
// not.
const zero = `{"name":"","count":"0","items":[],"byKey":{},"blob":"","fail":0}`

func typed(t string, more ...string) map[string]string {
	h := map[string]string{"Content-Type": t}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return "?" + v.Encode()
}

func contentTypes() []exchange {
	const hint = "set Content-Type: application/json"
	return []exchange{
		{name: "json alone", header: typed("application/json"), body: `{"name":"a"}`, status: 200, has: []string{`"name":"a"`}, check: is("Content-Type", "application/json")},
		{name: "charset", header: typed("application/json;charset=UTF-8"), body: `{"name":"a"}`, status: 200, has: []string{`"name":"a"`}},
		{name: "upper case", header: typed("Application/JSON; charset=\"utf-8\""), body: `{"name":"a"}`, status: 200, has: []string{`"name":"a"`}},
		{name: "other charset", header: typed("application/json; charset=latin1"), body: `{}`, status: 415, code: "invalid_argument", has: []string{hint}},
		{name: "curl -d", header: typed("application/x-www-form-urlencoded"), body: `{"name":"a"}`, status: 415, code: "invalid_argument",
			message: `invalid_content_type: "application/x-www-form-urlencoded" is not spoken by this method; ` + hint},
		{name: "text", header: typed("text/plain"), body: `{"name":"a"}`, status: 415, code: "invalid_argument", has: []string{hint}},
		{name: "none", body: `{"name":"a"}`, status: 415, code: "invalid_argument", has: []string{hint}},
		{name: "nonsense", header: typed("json"), body: `{}`, status: 415, code: "invalid_argument", has: []string{hint}},
		{name: "grpc-web-text", header: typed("application/grpc-web-text"), status: 415, code: "invalid_argument"},
		{name: "connect stream for a unary method", header: typed("application/connect+json"), status: 415, code: "invalid_argument"},
		{name: "proto for a stream", path: countPath, header: typed("application/proto"), status: 415, code: "invalid_argument"},
		{name: "json for a client stream", path: service + "Sum", header: typed("application/json"), body: `{}`, status: 415, code: "invalid_argument", has: []string{"application/connect+json"}},
		{name: "unknown codec", header: typed("application/grpc-web+thrift"), status: 415, code: "invalid_argument"},
		{name: "unknown compression", header: typed("application/json", "Content-Encoding", "br"), body: `{}`, status: 415, code: "invalid_argument", has: []string{"gzip"}},
		{name: "connect header as well", header: typed("application/json", "Connect-Protocol-Version", "1"), body: `{"name":"a"}`, status: 200, has: []string{`"name":"a"`}},
	}
}

func bodies() []exchange {
	j := typed("application/json")
	return []exchange{
		{name: "empty body", header: j, status: 200, is: zero},
		{name: "empty message", header: j, body: `{}`, status: 200, is: zero},
		{name: "int64 out as string", header: j, body: `{"count":9007199254740993}`, status: 200, has: []string{`"count":"9007199254740993"`}},
		{name: "int64 in as string", header: j, body: `{"count":"9007199254740993"}`, status: 200, has: []string{`"count":"9007199254740993"`}},
		{name: "duration", header: j, body: `{"ttl":"15s"}`, status: 200, has: []string{`"ttl":"15s"`}},
		{name: "part of a second", header: j, body: `{"ttl":"1.5s"}`, status: 200, has: []string{`"ttl":"1.500s"`}},
		{name: "proto names", header: j, body: `{"by_key":{"k":{"label":"x"}}}`, status: 200, has: []string{`"byKey":{"k":{"label":"x"}}`}},
		{name: "text beyond ASCII", header: j, body: `{"name":"schlüssel <&>"}`, status: 200, has: []string{`"name":"schlüssel <&>"`}},
		{name: "unknown field", header: j, body: `{"namee":"a"}`, status: 400, code: "invalid_argument",
			message: `invalid_request: unknown field "namee" in edge.test.v1.Message; did you mean "name"? (line 1:2)`},
		{name: "unknown field, far from any", header: j, body: `{"xyzzyplugh":"a"}`, status: 400, code: "invalid_argument",
			message: `invalid_request: unknown field "xyzzyplugh" in edge.test.v1.Message (line 1:2)`},
		{name: "unknown field, further in", header: j, body: "{\"items\":[{},\n {\"lable\":\"a\"}]}", status: 400, code: "invalid_argument",
			message: `invalid_request: unknown field "lable" in edge.test.v1.Item; did you mean "label"? (line 2:3)`},
		{name: "unknown field, in a map", header: j, body: `{"byKey":{"k":{"lable":"a"}}}`, status: 400, code: "invalid_argument",
			message: `invalid_request: unknown field "lable" in edge.test.v1.Item; did you mean "label"? (line 1:16)`},
		{name: "wrong duration", header: j, body: `{"ttl":"soon"}`, status: 400, code: "invalid_argument",
			message: `invalid_request: ttl: invalid google.protobuf.Duration value "soon" (line 1:8)`},
		{name: "wrong duration, further in", header: j, body: `{"name":"a","items":[{"label":"x"},{"wait":"soon"}]}`, status: 400, code: "invalid_argument",
			message: `invalid_request: items[1].wait: invalid google.protobuf.Duration value "soon" (line 1:44)`},
		{name: "wrong number", header: j, body: `{"count":"many"}`, status: 400, code: "invalid_argument",
			message: `invalid_request: count: invalid value for int64 field count: "many" (line 1:10)`},
		{name: "syntax", header: j, body: `{"name":"a",}`, status: 400, code: "invalid_argument", has: []string{"syntax error", "line 1:13"}},
		{name: "cut short", header: j, body: `{"name":"a"`, status: 400, code: "invalid_argument", has: []string{"invalid_request: "}},
		{name: "no JSON at all", header: j, body: `name=a`, status: 400, code: "invalid_argument", has: []string{"invalid_request: ", "line 1:1"}},
		{name: "twice the same", header: j, body: `{"name":"a","name":"b"}`, status: 400, code: "invalid_argument", has: []string{"name"}},
		{name: "as long as may be", header: j, body: `{"name":"` + strings.Repeat("x", 1<<20-11) + `"}`, status: 200},
		{name: "too long", header: j, body: `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, status: 429, code: "resource_exhausted",
			message: "limit_body: the request is longer than 1048576 bytes"},
		{name: "no gzip", header: typed("application/json", "Content-Encoding", "gzip"), body: `{}`, status: 400, code: "invalid_argument", has: []string{"not gzip"}},
		{name: "bomb", header: typed("application/json", "Content-Encoding", "gzip"), body: bomb(), status: 429, code: "resource_exhausted", has: []string{"limit_body: "}},
	}
}

func calls() []exchange {
	j := typed("application/json")
	raw := base64.RawURLEncoding.EncodeToString([]byte(`{"name":"??>>"}`))
	return []exchange{
		{name: "unknown method", path: service + "Nope", header: j, body: `{}`, status: 404, code: "unimplemented", message: `unknown_method: edge.test.v1.EchoService has no method "Nope"`},
		{name: "unknown service", path: "/edge.test.v1.Nope/Echo", header: j, body: `{}`, status: 404, code: "unimplemented", message: `unknown_service: no service "edge.test.v1.Nope" is served here`},
		{name: "a path below a method", path: echoPath + "/more", header: j, body: `{}`, status: 404, code: "unimplemented"},
		{name: "no path of a service", path: "/metrics", header: j, status: 404, code: "not_found"},
		{name: "GET of a write", method: http.MethodGet, status: 405, code: "unimplemented", message: "method_not_allowed: GET is not answered here; use POST", check: is("Allow", "POST")},
		{name: "PUT of a read", method: http.MethodPut, path: readPath, header: j, status: 405, code: "unimplemented", check: is("Allow", "GET, POST")},
		{name: "OPTIONS", method: http.MethodOptions, header: map[string]string{"Access-Control-Request-Method": "POST"}, status: 405, code: "unimplemented",
			check: is("Access-Control-Allow-Origin", "")},
		{name: "GET of a stream", method: http.MethodGet, path: countPath, status: 405, code: "unimplemented"},
		{name: "GET of a read", method: http.MethodGet, path: readPath + query("connect", "v1", "encoding", "json", "message", `{"name":"a"}`), status: 200, has: []string{`"name":"a"`}},
		{name: "GET without parameters", method: http.MethodGet, path: readPath, status: 200, is: zero},
		{name: "GET in base64", method: http.MethodGet, path: readPath + query("encoding", "json", "base64", "1", "message", raw), status: 200, has: []string{`"name":"??>>"`}},
		{name: "GET in base64, padded", method: http.MethodGet, path: readPath + query("encoding", "json", "base64", "1", "message", raw+"=="), status: 200},
		{name: "GET in no base64", method: http.MethodGet, path: readPath + query("base64", "1", "message", "?"), status: 400, code: "invalid_argument", has: []string{"message"}},
		{name: "GET in wrong base64", method: http.MethodGet, path: readPath + query("base64", "yes"), status: 400, code: "invalid_argument", has: []string{"base64"}},
		{name: "GET of an unknown field", method: http.MethodGet, path: readPath + query("message", `{"namee":"a"}`), status: 400, code: "invalid_argument", has: []string{`namee`}},
		{name: "GET in an unknown encoding", method: http.MethodGet, path: readPath + query("encoding", "yaml"), status: 415, code: "invalid_argument"},
		{name: "POST of a read", path: readPath, header: j, body: `{"name":"a"}`, status: 200, has: []string{`"name":"a"`}},
		{name: "error", header: j, body: `{"name":"x","fail":9}`, status: 400, code: "failed_precondition", message: `asked_to: fail with 100% of 9, as "x" wants: ü`},
		{name: "error, not found", header: j, body: `{"fail":5}`, status: 404, code: "not_found"},
		{name: "error, aborted", header: j, body: `{"fail":10}`, status: 409, code: "aborted"},
		{name: "error, exhausted", header: j, body: `{"fail":8}`, status: 429, code: "resource_exhausted"},
		{name: "error, unavailable", header: j, body: `{"fail":14}`, status: 503, code: "unavailable"},
		{name: "error, deadline", header: j, body: `{"fail":4}`, status: 504, code: "deadline_exceeded"},
		{name: "error, permission", header: j, body: `{"fail":7}`, status: 403, code: "permission_denied"},
		{name: "error, unauthenticated", header: j, body: `{"fail":16}`, status: 401, code: "unauthenticated"},
		{name: "deadline reaches the handler", header: typed("application/json", "Connect-Timeout-Ms", "5000"), body: `{}`, status: 200, check: is("X-Deadline", "true")},
		{name: "no deadline", header: j, body: `{}`, status: 200, check: is("X-Deadline", "")},
		{name: "deadline passed", path: service + "Wait", header: typed("application/connect+json", "Connect-Timeout-Ms", "1"), body: "\x00\x00\x00\x00\x02{}", status: 200, has: []string{"deadline_exceeded"}},
		{name: "no deadline at all", header: typed("application/json", "Connect-Timeout-Ms", "soon"), body: `{}`, status: 400, code: "invalid_argument", has: []string{"Connect-Timeout-Ms"}},
	}
}

func metadatas() []exchange {
	j := typed("application/json")
	bin := base64.RawStdEncoding.EncodeToString([]byte{0, 255, 10})
	return []exchange{
		{name: "header and trailer", header: typed("application/json", "X-Want", "this"), body: `{}`, status: 200, check: is("X-Got", "this", "Trailer-X-After", "this")},
		{name: "binary", header: typed("application/json", "X-Want-Bin", bin), body: `{}`, status: 200, check: is("X-Got-Bin", bin, "Trailer-X-After-Bin", bin)},
		{name: "binary, padded", header: typed("application/json", "X-Want-Bin", bin+"="), body: `{}`, status: 200, check: is("X-Got-Bin", bin)},
		{name: "no binary", header: typed("application/json", "X-Want-Bin", "?"), body: `{}`, status: 400, code: "invalid_argument", has: []string{"x-want-bin"}},
		{name: "headers with an error", header: typed("application/json", "X-Want", "this"), body: `{"fail":9}`, status: 400, code: "failed_precondition", check: is("X-Got", "this", "Trailer-X-After", "this")},
		{name: "what gRPC cannot carry", header: typed("application/json", "X-Odd", "ü", "X-Show", "x-odd"), body: `{}`, status: 200, check: is("X-Shown", "")},
		{name: "what belongs to the connection", header: typed("application/json", "X-Show", "connect-protocol-version"), body: `{}`, status: 200, check: is("X-Shown", "")},
		{name: "authorization", header: typed("application/json", "Authorization", "Bearer x", "X-Show", "authorization"), body: `{}`, status: 200, check: is("X-Shown", "Bearer x")},
		{name: "no header that a browser obeys", header: j, body: `{}`, status: 200, check: is("Set-Cookie", "", "Access-Control-Allow-Origin", "", "X-Content-Type-Options", "nosniff", "Cross-Origin-Resource-Policy", "same-origin")},
	}
}

func streams() []exchange {
	j := typed("application/json")
	item := func(n string) string {
		return `{"name":"tick","count":"` + n + `","items":[],"byKey":{},"blob":"","fail":0}` + "\n"
	}
	return []exchange{
		{name: "lines", path: countPath, header: j, body: `{"count":2}`, status: 200, is: item("0") + item("1"), check: is("Content-Type", "application/x-ndjson")},
		{name: "no lines", path: countPath, header: j, status: 200, check: is("Content-Type", "application/x-ndjson")},
		{name: "lines and an error", path: countPath, header: j, body: `{"name":"x","count":1,"fail":9}`, status: 200,
			has: []string{item("0") + `{"error":{"code":"failed_precondition","message":"asked_to: fail with 100% of 9, as \"x\" wants: ü","details":[{`, `"reason":"asked_to"`}},
		{name: "an error at once", path: countPath, header: j, body: `{"name":"x","fail":9}`, status: 400, code: "failed_precondition",
			message: `asked_to: fail with 100% of 9, as "x" wants: ü`, check: is("Content-Type", "application/json")},
		{name: "unknown field", path: countPath, header: j, body: `{"cuont":2}`, status: 400, code: "invalid_argument", has: []string{`did you mean \"count\"?`}},
		{name: "too long", path: countPath, header: j, body: `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, status: 429, code: "resource_exhausted"},
		{name: "connect stream", path: countPath, header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x0b{\"count\":1}", status: 200,
			has: []string{`"name":"tick"`, "\x02\x00\x00\x00", `{"metadata":{"X-After":["counted"]}}`}, check: is("Content-Type", "application/connect+json")},
		{name: "connect stream, two messages for one", path: countPath, header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x02{}\x00\x00\x00\x00\x02{}", status: 400, code: "invalid_argument"},
		{name: "connect stream, wrong field", path: countPath, header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x09{\"nix\":1}", status: 200, has: []string{`"error":{"code":"invalid_argument","message":"invalid_request: unknown field`}},
		{name: "client stream", path: service + "Sum", header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x0b{\"count\":1}\x00\x00\x00\x00\x0b{\"count\":2}", status: 200, has: []string{`"count":"3"`}},
		{name: "client stream, second message wrong", path: service + "Sum", header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x0b{\"count\":1}\x00\x00\x00\x00\x09{\"nix\":1}", status: 200,
			has: []string{`"error":{"code":"invalid_argument","message":"invalid_request: unknown field`}},
		{name: "client stream, cut short", path: service + "Sum", header: typed("application/connect+json"), body: "\x00\x00\x00\x00\x0b{\"count\":1}\x00\x00\x00\x00\x0b{\"co", status: 200, has: []string{`"code":"canceled"`}},
		{name: "client stream, one message too long", path: service + "Sum", header: typed("application/connect+json"), body: "\x00\x00\x20\x00\x00", status: 200, has: []string{`"error":{"code":"resource_exhausted","message":"limit_body: `}},
	}
}

// is returns a check of headers, by pairs of name and value.
func is(pairs ...string) func(*testing.T, http.Header) {
	return func(t *testing.T, h http.Header) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			if got := strings.Join(h.Values(pairs[i]), "|"); got != pairs[i+1] {
				t.Errorf("header %s is %q, want %q", pairs[i], got, pairs[i+1])
			}
		}
	}
}
