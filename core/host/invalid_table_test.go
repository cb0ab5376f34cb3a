package host_test

import (
	"strings"

	"google.golang.org/grpc/codes"
)

// acquire is a bad request of Acquire.
func acquire(what, fields string, says, limit string) bad {
	return bad{what: what, method: "lock.v1.LockService/Acquire", body: `{"sessionId":"@A",` + fields + `}`,
		code: codes.InvalidArgument, says: says, limit: limit}
}

func badNames() []bad {
	var all []bad
	long := strings.Repeat("s/", 3) + strings.Repeat(strings.Repeat("n", 255)+"/", 4) + "n"
	for _, n := range []struct{ what, json, limit string }{
		{"an empty name", ``, "is empty"},
		{"two dots", `..`, `has the segment ".."`},
		{"a dot", `.`, `has the segment "."`},
		{"dots inside", `a/../b`, `has the segment ".."`},
		{"a slash before", `/a`, "has an empty segment"},
		{"a slash behind", `a/`, "has an empty segment"},
		{"two slashes", `a//b`, "has an empty segment"},
		{"a NUL", `a\u0000b`, "control character at byte 1"},
		{"a new line", `\n`, "control character at byte 0"},
		{"an escape", `ab\u001b[2J`, "control character at byte 2"},
		{"a C1 control character", `a\u0085`, "control character at byte 1"},
		{"a segment of 300 bytes", strings.Repeat("n", 300), "has a segment of 300 bytes, the limit is 255"},
		{"a segment of 258 bytes in 86 characters", strings.Repeat("€", 86), "has a segment of 258 bytes, the limit is 255"},
		{"nine segments", `1/2/3/4/5/6/7/8/9`, "has 9 segments, the limit is 8"},
		{"1,031 bytes", long, "has 1031 bytes, the limit is 1024"},
	} {
		all = append(all, acquire(n.what, `"name":"`+n.json+`"`, "invalid_name: name: ", n.limit))
		for method, more := range map[string]string{"TryAcquire": `,"sessionId":"@A"`, "Release": `,"sessionId":"@A","token":"@TOKEN"`, "Why": ``, "History": ``,
			"ForceRelease": `,"reason":"a test"`} {
			all = append(all, bad{what: n.what + " in " + method, method: "lock.v1.LockService/" + method, body: `{"name":"` + n.json + `"` + more + `}`,
				code: codes.InvalidArgument, says: "invalid_name: name: ", limit: n.limit})
		}
	}
	utf8 := acquire("a name that is no UTF-8", "\"name\":\"a\xff\"", "invalid_", "UTF-8")
	utf8.wire = "\x0a\x24@A\x1a\x02a\xff" // a session of 36 bytes, and a name of two
	half := acquire("half a surrogate pair", `"name":"a\ud800"`, "invalid_request: ", "AcquireRequest")
	half.text = true
	return append(all, utf8, half)
}

func badAcquires() []bad {
	return []bad{
		acquire("an unknown mode", `"name":"a","mode":"exclusive"`, "invalid_mode: mode: ", `"write", "read" and "permits"`),
		acquire("more permits than the limit", `"name":"a","mode":"permits","permits":4,"limit":3`, "invalid_permits: permits: ", "3"),
		acquire("negative permits", `"name":"a","permits":-1,"limit":3`, "invalid_permits: permits: ", "3"),
		acquire("a negative limit", `"name":"a","limit":-1`, "invalid_limit: limit: ", ""),
		acquire("a limit above a million", `"name":"a","limit":1000001`, "invalid_limit: limit: ", "1000000"),
		acquire("permits without a limit", `"name":"a","mode":"permits"`, "invalid_limit: limit: ", "is 0"),
		acquire("a limit for a writer", `"name":"a","mode":"write","limit":2`, "invalid_limit: limit: ", "permits"),
		acquire("permits for a reader", `"name":"a","mode":"read","permits":2`, "invalid_permits: permits: ", "permits"),
		acquire("a negative wait", `"name":"a","wait":"-1s"`, "invalid_wait: wait: ", "negative"),
		acquire("a purpose of 257 bytes", `"name":"a","purpose":"`+strings.Repeat("p", 257)+`"`, "invalid_purpose: purpose: ", "has 257 bytes, the limit is 256"),
		acquire("a purpose of two lines", `"name":"a","purpose":"a\nb"`, "invalid_purpose: purpose: ", "control character at byte 1"),
		acquire("a grace of 11 s", `"name":"a","grace":"11s"`, "invalid_grace: grace: ", "10s"),
		acquire("a negative grace", `"name":"a","grace":"-0.1s"`, "invalid_grace: grace: ", "negative"),
		acquire("a priority of 128", `"name":"a","priority":128`, "invalid_priority: priority: ", "127"),
		acquire("a priority of -129", `"name":"a","priority":-129`, "invalid_priority: priority: ", "-128"),
		acquire("a namespace that is not the session's", `"name":"a","namespace":"elsewhere"`, "invalid_namespace: namespace: ", `"elsewhere"`),
		acquire("a namespace of two segments", `"name":"a","namespace":"a/b"`, "invalid_namespace: namespace: ", "one segment"),
		acquire("a name that is held in another mode", `"name":"a","limit":2,"permits":3`, "invalid_permits: permits: ", "2"),
	}
}

func badSessions() []bad {
	open := func(what, fields, says, limit string) bad {
		return bad{what: what, method: "session.v1.SessionService/Open", body: "{" + fields + "}", code: codes.InvalidArgument, says: says, limit: limit}
	}
	text := func(b bad) bad { b.text = true; return b }
	return []bad{
		open("a TTL of 0", `"ttl":"0s"`, "invalid_ttl: ttl: ", "below the limit of 5s"),
		open("a negative TTL", `"ttl":"-15s"`, "invalid_ttl: ttl: ", "below the limit of 5s"),
		open("half a second", `"ttl":"0.5s"`, "invalid_ttl: ttl: ", "below the limit of 5s"),
		open("four seconds", `"ttl":"4s"`, "invalid_ttl: ttl: ", "4s is below the limit of 5s"),
		open("nearly five", `"ttl":"4.999999999s"`, "invalid_ttl: ttl: ", "below the limit of 5s"),
		open("two hours", `"ttl":"7200s"`, "invalid_ttl: ttl: ", "2h0m0s is above the limit of 1h0m0s"),
		open("a little over an hour", `"ttl":"3600.000000001s"`, "invalid_ttl: ttl: ", "above the limit of 1h0m0s"),
		open("ten thousand years", `"ttl":"315576000000s"`, "invalid_ttl: ttl: ", "above the limit of 1h0m0s"),
		text(open("a TTL of letters", `"ttl":"abc"`, "invalid_request: ttl: ", "abc")),
		text(open("a TTL in hours", `"ttl":"2h"`, "invalid_request: ttl: ", "2h")),
		text(open("a TTL as a number", `"ttl":15`, "invalid_request: ttl: ", "15")),
		text(open("more than a Duration holds", `"ttl":"315576000001s"`, "invalid_request: ttl: ", "")),
		open("an owner of 256 bytes", `"owner":"`+strings.Repeat("o", 256)+`"`, "invalid_owner: owner: ", "has 256 bytes, the limit is 255"),
		open("an owner of two lines", `"owner":"a\nb"`, "invalid_owner: owner: ", "control character at byte 1"),
		open("a namespace of two segments", `"namespace":"a/b"`, "invalid_namespace: namespace: ", "one segment"),
		open("a namespace of dots", `"namespace":".."`, "invalid_namespace: namespace: ", `".."`),
		open("a namespace of 256 bytes", `"namespace":"`+strings.Repeat("n", 256)+`"`, "invalid_namespace: namespace: ", "the limit is 255"),
	}
}

func badTokens() []bad {
	release := func(what, fields string, code codes.Code, says, limit string) bad {
		return bad{what: what, method: "lock.v1.LockService/Release", body: `{"name":"held",` + fields + "}", code: code, says: says, limit: limit}
	}
	text := release("a token of letters", `"sessionId":"@A","token":"abc"`, codes.InvalidArgument, "invalid_request: token: ", "abc")
	text.text = true
	long := release("a token of 2^63", `"sessionId":"@A","token":"9223372036854775808"`, codes.InvalidArgument, "invalid_request: token: ", "9223372036854775808")
	long.text = true
	return []bad{
		release("another token", `"sessionId":"@A","token":"42"`, codes.FailedPrecondition, "stale_token: ", "@TOKEN"),
		release("the largest token", `"sessionId":"@A","token":"9223372036854775807"`, codes.FailedPrecondition, "stale_token: ", "@TOKEN"),
		release("the token of another session's lock", `"sessionId":"@A","token":"@OTHERS"`, codes.FailedPrecondition, "stale_token: ", "@TOKEN"),
		release("token 0", `"sessionId":"@A","token":"0"`, codes.InvalidArgument, "invalid_token: token: ", "Acquire"),
		release("no token", `"sessionId":"@A"`, codes.InvalidArgument, "invalid_token: token: ", "Acquire"),
		release("a negative token", `"sessionId":"@A","token":"-1"`, codes.InvalidArgument, "invalid_token: token: ", "Acquire"),
		release("the right token, of another session", `"sessionId":"@B","token":"@TOKEN"`, codes.FailedPrecondition, "not_owner: ", "held"),
		release("the right token, for another name", `"sessionId":"@A","token":"@TOKEN","namespace":"elsewhere"`, codes.InvalidArgument, "invalid_namespace: namespace: ", "elsewhere"),
		release("the right token, from another namespace", `"sessionId":"@X","token":"@TOKEN","namespace":"elsewhere"`, codes.FailedPrecondition, "not_owner: ", "held"),
		{what: "a name that nobody owns", method: "lock.v1.LockService/Release", body: `{"sessionId":"@A","name":"free","token":"@TOKEN"}`, code: codes.FailedPrecondition, says: "not_owner: ", limit: "free"},
		{what: "a forced release without a reason", method: "lock.v1.LockService/ForceRelease", body: `{"name":"held"}`, code: codes.InvalidArgument, says: "invalid_reason: reason: ", limit: "empty"},
		{what: "a forced release with a long reason", method: "lock.v1.LockService/ForceRelease", body: `{"name":"held","reason":"` + strings.Repeat("r", 257) + `"}`,
			code: codes.InvalidArgument, says: "invalid_reason: reason: ", limit: "the limit is 256"},
		{what: "a forced release with another token", method: "lock.v1.LockService/ForceRelease", body: `{"name":"held","reason":"a test","token":"42"}`,
			code: codes.FailedPrecondition, says: "stale_token: ", limit: "42"},
		{what: "a lock that is held", method: "lock.v1.LockService/TryAcquire", body: `{"sessionId":"@B","name":"held"}`, code: codes.Aborted, says: "locked: ", limit: "held"},
		{what: "a lock that is held otherwise", method: "lock.v1.LockService/TryAcquire", body: `{"sessionId":"@A","name":"held","mode":"read"}`, code: codes.Aborted, says: "conflict: ", limit: "held"},
		text, long,
	}
}

func badIDs() []bad {
	var all []bad
	for method, more := range map[string]string{
		"lock.v1.LockService/Acquire": `,"name":"a"`, "lock.v1.LockService/TryAcquire": `,"name":"a"`,
		"lock.v1.LockService/Release": `,"name":"held","token":"@TOKEN"`, "session.v1.SessionService/Renew": ``,
	} {
		for _, id := range []struct {
			what, value string
			code        codes.Code
			says        string
		}{
			{"no session", ``, codes.InvalidArgument, "invalid_session_id: session_id: is empty"},
			{"a malformed session", `mine`, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"a path as a session", `../default/@A`, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"a session in another spelling", `{@A}`, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"a session with a space", `@A `, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"an unknown session", `6ba7b810-9dad-41d1-80b4-00c04fd430c8`, codes.FailedPrecondition, "session_expired: "},
			{"an ended session", `@ENDED`, codes.FailedPrecondition, "session_expired: "},
			{"a session of another namespace", `@X`, codes.InvalidArgument, "invalid_namespace: namespace: "},
		} {
			all = append(all, bad{what: id.what + " in " + method, method: method, body: `{"sessionId":"` + id.value + `"` + more + `}`, code: id.code, says: id.says})
		}
	}
	return all
}

func badJSON() []bad {
	var all []bad
	for _, j := range []struct{ what, body, says, limit string }{
		{"an unknown field", `{"sessionId":"@A","nam":"a"}`, "invalid_request: ", `unknown field "nam" in conclave.lock.v1.AcquireRequest; did you mean "name"?`},
		{"a number as a name", `{"sessionId":"@A","name":5}`, "invalid_request: name: ", "5"},
		{"an object as a session", `{"sessionId":{},"name":"a"}`, "invalid_request: sessionId: ", ""},
		{"a number as a wait", `{"sessionId":"@A","name":"a","wait":5}`, "invalid_request: wait: ", "5"},
		{"a text as permits", `{"sessionId":"@A","name":"a","permits":"many"}`, "invalid_request: permits: ", "many"},
		{"half a permit", `{"sessionId":"@A","name":"a","limit":3,"permits":1.5}`, "invalid_request: permits: ", "1.5"},
		{"2^31 permits", `{"sessionId":"@A","name":"a","limit":3,"permits":2147483648}`, "invalid_request: permits: ", "2147483648"},
		{"a name twice", `{"sessionId":"@A","name":"a","name":"b"}`, "invalid_request: ", "name"},
		{"a list", `[]`, "invalid_request: ", ""},
		{"a text", `"a"`, "invalid_request: ", ""},
		{"null", `null`, "invalid_request: ", ""},
		{"half an object", `{"sessionId":"@A"`, "invalid_request: ", ""},
		{"two objects", `{"sessionId":"@A","name":"a"}{}`, "invalid_request: ", ""},
		{"no JSON", `sessionId=@A`, "invalid_request: ", ""},
	} {
		all = append(all, bad{what: j.what, method: "lock.v1.LockService/Acquire", body: j.body, text: true, code: codes.InvalidArgument, says: j.says, limit: j.limit})
	}
	return append(all, bad{what: "two megabytes", method: "lock.v1.LockService/Acquire", body: `{"sessionId":"@A","name":"a","purpose":"` + strings.Repeat("p", 2<<20) + `"}`,
		code: codes.ResourceExhausted, says: "limit_", limit: "1048576"})
}

func badLooks() []bad {
	look := func(what, method, body, says, limit string) bad {
		return bad{what: what, method: method, body: body, code: codes.InvalidArgument, says: says, limit: limit}
	}
	return []bad{
		look("a negative page", "lock.v1.LockService/List", `{"pageSize":-1}`, "invalid_page_size: page_size: ", "negative"),
		look("a page of nothing", "lock.v1.LockService/List", `{"pageToken":"!"}`, "invalid_page_token: page_token: ", "List"),
		look("a list of a bad prefix", "lock.v1.LockService/List", `{"prefix":"\n"}`, "invalid_prefix: prefix: ", "control character"),
		look("a list of a bad namespace", "lock.v1.LockService/List", `{"namespace":"a/b"}`, "invalid_namespace: namespace: ", "one segment"),
		look("a history of too much", "lock.v1.LockService/History", `{"name":"held","limit":1001}`, "invalid_limit: limit: ", "1000"),
		look("sessions of a bad namespace", "session.v1.SessionService/List", `{"namespace":"."}`, "invalid_namespace: namespace: ", `"."`),
		look("a negative page of sessions", "session.v1.SessionService/List", `{"pageSize":-1}`, "invalid_page_size: page_size: ", "negative"),
		look("sessions behind nothing", "session.v1.SessionService/List", `{"pageToken":"!"}`, "invalid_page_token: page_token: ", "List"),
		look("a session that is none to close", "session.v1.SessionService/Close", `{"sessionId":"mine"}`, "invalid_session_id: session_id: ", ""),
		look("another namespace's session to close", "session.v1.SessionService/Close", `{"sessionId":"@X"}`, "invalid_namespace: namespace: ", "default"),
	}
}
