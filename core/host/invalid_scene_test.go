package host_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

// newOwners is a scene with one recipe. Its sessions, by ids: A has what own
// calls with, and TOKEN is the token of it; B has nothing, ENDED has ended, and X
// lives in another namespace.
func newOwners(t *testing.T, r recipe.Recipe, cfg, method, own string) *scene {
	t.Helper()
	c := config(t)
	c.Recipes = map[string]host.RecipeConfig{r.Info().Name: {Config: json.RawMessage(cfg)}}
	s := &scene{h: start(t, c, host.WithRecipe(r))}
	s.etcd = dial(t, s.h)
	client := web(t)
	ok := func(method, body string) answer {
		t.Helper()
		a := post(t, client, s.h.API(), method, body)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %+v", method, a)
		}
		return a
	}
	open := func(namespace string) string {
		return ok("session.v1.SessionService/Open", fmt.Sprintf(`{"ttl":"600s","namespace":%q}`, namespace)).SessionID
	}
	a, b, x, ended := open(""), open("default"), open("elsewhere"), open("")
	ok("session.v1.SessionService/Close", fmt.Sprintf(`{"sessionId":%q}`, ended))
	s.ids = strings.NewReplacer("@A", a, "@B", b, "@X", x, "@ENDED", ended)
	if service, last, _ := strings.Cut(method, "/"); last == "Dequeue" {
		ok(service+"/Enqueue", `{"name":"held","items":[{"value":"v"}]}`)
	}
	got := ok(method, s.ids.Replace(own))
	token := got.Token
	if token == "" { // of an item
		var items struct {
			Items []struct{ ID, Token string }
		}
		if err := json.Unmarshal([]byte(got.body), &items); err != nil || len(items.Items) != 1 {
			t.Fatalf("%s answers %s: %v", method, got.body, err)
		}
		token = items.Items[0].Token
		s.ids = strings.NewReplacer("@A", a, "@B", b, "@X", x, "@ENDED", ended, "@TOKEN", token, "@ITEM", items.Items[0].ID)
	} else {
		s.ids = strings.NewReplacer("@A", a, "@B", b, "@X", x, "@ENDED", ended, "@TOKEN", token)
	}
	s.settle(t, 4) // the recipe opens a session of its own in the background
	return s
}

// settle waits until there are so many leases.
func (s *scene) settle(t *testing.T, leases int) {
	t.Helper()
	for ctx := within(t); s.leases != leases; {
		got, err := s.etcd.Leases(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.leases = len(got.Leases)
	}
}

// refusesAll calls in every way, and expects that nothing is written.
func (s *scene) refusesAll(t *testing.T, all []bad) {
	t.Helper()
	ways := s.ways(t)
	before := s.trace(t)
	for _, b := range all {
		for _, w := range ways {
			got, ok := w.call(t, b)
			if !ok {
				continue
			}
			if got.code != b.code || !strings.HasPrefix(got.message, b.says) || !strings.Contains(got.message, s.ids.Replace(b.limit)) {
				t.Errorf("%s: %s over %s: %+v, want %v %q … %q", b.method, b.what, w.name, got, b.code, b.says, b.limit)
			}
			if got.status != 0 && got.status != httpStatus(b.code) {
				t.Errorf("%s: %s over %s: HTTP %d", b.method, b.what, w.name, got.status)
			}
			if got.reason == "" || !strings.HasPrefix(got.message, got.reason+": ") {
				t.Errorf("%s: %s over %s: the details say %q, the message %q", b.method, b.what, w.name, got.reason, got.message)
			}
			if after := s.trace(t); after != before {
				t.Fatalf("%s: %s over %s wrote: %s, before %s", b.method, b.what, w.name, after, before)
			}
		}
	}
}

// A verb is a method with a request that is right, but for what a test says of
// its name, or session: those are added in front.
type verb struct {
	method string
	more   string // the other fields, each after a comma
}

// of makes a request of a method in JSON: fields first, then more.
func (v verb) of(what, fields string, code codes.Code, says, limit string) bad {
	return bad{what: what, method: v.method, body: "{" + fields + v.more + "}", code: code, says: says, limit: limit}
}

// refusedNames are bad names for each of some methods, all with the session A where
// they take one.
func refusedNames(verbs []verb, session map[string]bool) []bad {
	var all []bad
	for _, v := range verbs {
		with := ""
		if session[v.method] {
			with = `"sessionId":"@A",`
		}
		for _, n := range []struct{ what, json, limit string }{
			{"an empty name", ``, "is empty"},
			{"dots inside", `a/../b`, `has the segment ".."`},
			{"two slashes", `a//b`, "has an empty segment"},
			{"a NUL", `a\u0000b`, "control character at byte 1"},
			{"a C1 control character", `a\u0085`, "control character at byte 1"},
			{"a segment of 300 bytes", strings.Repeat("n", 300), "has a segment of 300 bytes, the limit is 255"},
			{"nine segments", `1/2/3/4/5/6/7/8/9`, "has 9 segments, the limit is 8"},
		} {
			all = append(all, v.of(n.what, with+`"name":"`+n.json+`"`, codes.InvalidArgument, "invalid_name: name: ", n.limit))
		}
		all = append(all, v.of("a namespace of two segments", with+`"namespace":"a/b","name":"n"`, codes.InvalidArgument, "invalid_namespace: namespace: ", "one segment"))
		unknown := v.of("an unknown field", with+`"nam":"n"`, codes.InvalidArgument, "invalid_request: ", `unknown field "nam"`)
		number := v.of("a number as a name", with+`"name":5`, codes.InvalidArgument, "invalid_request: name: ", "5")
		unknown.text, number.text = true, true
		all = append(all, unknown, number)
	}
	return all
}

// refusedSessions are sessions that may not call the methods, which are right but
// for that.
func refusedSessions(verbs []verb, name string) []bad {
	var all []bad
	for _, v := range verbs {
		for _, id := range []struct {
			what, value string
			code        codes.Code
			says        string
		}{
			{"no session", ``, codes.InvalidArgument, "invalid_session_id: session_id: is empty"},
			{"a malformed session", `mine`, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"a path as a session", `../default/@A`, codes.InvalidArgument, "invalid_session_id: session_id: "},
			{"an unknown session", `6ba7b810-9dad-41d1-80b4-00c04fd430c8`, codes.FailedPrecondition, "session_expired: "},
			{"an ended session", `@ENDED`, codes.FailedPrecondition, "session_expired: "},
			{"a session of another namespace", `@X`, codes.InvalidArgument, "invalid_namespace: namespace: "},
		} {
			all = append(all, v.of(id.what, `"sessionId":"`+id.value+`","name":"`+name+`"`, id.code, id.says, ""))
		}
		all = append(all, v.of("a namespace that is not the session's", `"sessionId":"@A","namespace":"elsewhere","name":"`+name+`"`,
			codes.InvalidArgument, "invalid_namespace: namespace: ", `"elsewhere"`))
	}
	return all
}

// refusedTokens are tokens that are not the one of what A has under the name
// "held"; from is the method that tells the token.
func refusedTokens(v verb, from, stale string) []bad {
	with := func(what, session, token string, code codes.Code, says, limit string) bad {
		return v.of(what, `"sessionId":"`+session+`","name":"held","token":"`+token+`"`, code, says, limit)
	}
	letters := with("a token of letters", "@A", "abc", codes.InvalidArgument, "invalid_request: token: ", "abc")
	large := with("a token of 2^63", "@A", "9223372036854775808", codes.InvalidArgument, "invalid_request: token: ", "9223372036854775808")
	letters.text, large.text = true, true
	return []bad{letters, large,
		with("token 0", "@A", "0", codes.InvalidArgument, "invalid_token: token: ", from),
		v.of("no token", `"sessionId":"@A","name":"held"`, codes.InvalidArgument, "invalid_token: token: ", from),
		with("a negative token", "@A", "-1", codes.InvalidArgument, "invalid_token: token: ", from),
		with("another token", "@A", "42", codes.FailedPrecondition, stale, "@TOKEN"),
		with("the largest token", "@A", "9223372036854775807", codes.FailedPrecondition, stale, "@TOKEN"),
		with("the right token, of another session", "@B", "@TOKEN", codes.FailedPrecondition, "not_owner: ", "held"),
		v.of("a name of which it has nothing", `"sessionId":"@A","name":"free","token":"@TOKEN"`, codes.FailedPrecondition, "not_owner: ", "free"),
		v.of("the right token, from another namespace", `"sessionId":"@X","namespace":"elsewhere","name":"held","token":"@TOKEN"`, codes.FailedPrecondition, "not_owner: ", "held"),
	}
}
