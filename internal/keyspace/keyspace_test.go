package keyspace_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/internal/keyspace"
)

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", 255)
	for _, c := range []struct {
		name, reason string // an empty reason means allowed
	}{
		{"jobs", ""},
		{"jobs/2", ""},
		{"größe/第一", ""},
		{"..a/b..", ""},
		{"_host", ""},
		{"a b%/c", ""},
		{"1/2/3/4/5/6/7/8", ""},
		{long, ""},
		{strings.Repeat("ü", 127), ""},
		{long + "/" + long + "/" + long + "/" + long + "/", "has an empty segment"},
		{long + "/" + long + "/" + long + "/" + long + "x", "has a segment of 256 bytes, the limit is 255"},
		{long + "/" + long + "/" + long + "/" + long + "/x", "has 1025 bytes, the limit is 1024"},
		{"1/2/3/4/5/6/7/8/9", "has 9 segments, the limit is 8"},
		{"", "is empty"},
		{"/", "has an empty segment"},
		{"/jobs", "has an empty segment"},
		{"jobs//2", "has an empty segment"},
		{"jobs/.", `has the segment "."`},
		{"../jobs", `has the segment ".."`},
		{"a\nb", "has a control character at byte 1"},
		{"a\x7f", "has a control character at byte 1"},
		{"\u0085", "has a control character at byte 0"},
		{"\xff", "is not valid UTF-8"},
		{strings.Repeat("ü", 128), "has a segment of 256 bytes, the limit is 255"},
	} {
		wantReason(t, keyspace.CheckName("name", c.name), "name", c.name, c.reason)
	}
}

func TestCheckNamespace(t *testing.T) {
	for _, c := range []struct{ ns, reason string }{
		{"default", ""},
		{"_host", ""},
		{"", "is empty"},
		{"a/b", `contains "/", a namespace is one segment`},
		{"..", `has the segment ".."`},
		{strings.Repeat("a", 256), "has a segment of 256 bytes, the limit is 255"},
	} {
		wantReason(t, keyspace.CheckNamespace("namespace", c.ns), "namespace", c.ns, c.reason)
	}
}

func TestCheckRecipe(t *testing.T) {
	const rule = `must be lower-case letters, digits and "-", beginning with a letter`
	for _, c := range []struct{ recipe, reason string }{
		{"lock", ""},
		{"rate-limit2", ""},
		{"", "is empty"},
		{"Lock", rule},
		{"2lock", rule},
		{"-lock", rule},
		{"a/b", rule},
		{"_host", rule},
		{strings.Repeat("a", 65), "has 65 bytes, the limit is 64"},
	} {
		wantReason(t, keyspace.CheckRecipe("recipe", c.recipe), "recipe", c.recipe, c.reason)
	}
}

func TestCheckText(t *testing.T) {
	for _, c := range []struct{ text, reason string }{
		{"", ""},
		{"nightly import", ""},
		{"12345678901234567", "has 17 bytes, the limit is 16"},
		{"a\x1b[2J", "has a control character at byte 1"},
		{"\xc3", "is not valid UTF-8"},
	} {
		wantReason(t, keyspace.CheckText("purpose", c.text, 16), "purpose", c.text, c.reason)
	}
}

func wantReason(t *testing.T, err error, field, input, reason string) {
	t.Helper()
	if reason == "" {
		if err != nil {
			t.Errorf("%q is refused: %v", input, err)
		}
		return
	}
	e, ok := errors.AsType[*keyspace.Error](err)
	if !ok || e.Field != field || e.Reason != reason {
		t.Errorf("%q: got %v, want %s: %s", input, err, field, reason)
	}
}

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"jobs":    "jobs",
		"jobs/2":  "jobs%2F2",
		"a_b-c.~": "a_b-c.~",
		"_host":   "%5Fhost",
		"%2F":     "%252F",
		"ü":       "%C3%BC",
		"a b":     "a%20b",
		"\x00":    "%00",
		"":        "",
	} {
		if got := keyspace.Escape(in); got != want {
			t.Errorf("Escape(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestUnescapeRefusesOtherSpellings(t *testing.T) {
	for _, s := range []string{
		"%2f", "%", "%2", "%2G", "%61", "_host", "a%5Fb", "a/b", "a b", "ü", "\x00", "%+1",
	} {
		if got, err := keyspace.Unescape(s); !errors.Is(err, keyspace.ErrNotCanonical) {
			t.Errorf("Unescape(%q) = %q, %v", s, got, err)
		}
	}
}

func TestPrefixes(t *testing.T) {
	for got, want := range map[string]string{
		keyspace.Prefix("default", "lock", "jobs/2"): "/conclave/default/lock/jobs%2F2/",
		keyspace.Prefix("_host", "lock", "a"):        "/conclave/%5Fhost/lock/a/",
		keyspace.RecipePrefix("ü", "queue"):          "/conclave/%C3%BC/queue/",
		keyspace.HostPrefix("session"):               "/conclave/_host/session/",
		keyspace.End("/conclave/default/lock/jobs/"): "/conclave/default/lock/jobs0",
		keyspace.End("line/7f/12ab-"):                "line/7f/12ab.",
		keyspace.End("a\xff"):                        "b",
		keyspace.End("\xff"):                         "\x00",
		keyspace.End(""):                             "\x00",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, key := range []string{
		"", "/", "/conclave", "/conclave/", "/other/default/lock/a/grant",
		"/conclave/default/lock/a",                  // no delimiter after the name
		"/conclave/default/lock//grant",             // no name
		"/conclave//lock/a/grant",                   // no namespace
		"/conclave/default//a/grant",                // no recipe
		"/conclave/default/Lock/a/grant",            // not a recipe's name
		"/conclave/default/lock/a%2fb/grant",        // another spelling
		"/conclave/default/lock/%2E%2E/grant",       // another spelling
		"/conclave/default/lock/../grant",           // a name that is refused
		"/conclave/default/lock/a%0Ab/grant",        // a control character
		"/conclave/default/lock/%FF/grant",          // not UTF-8
		"/conclave/a%2Fb/lock/a/grant",              // a namespace of two segments
		"/conclave/_other/lock/a/grant",             // bare underscore
		keyspace.HostPrefix("session") + "abc/lock", // the host's
	} {
		if k, err := keyspace.Parse(key); !errors.Is(err, keyspace.ErrNotKey) {
			t.Errorf("Parse(%q) = %+v, %v", key, k, err)
		}
	}
}

func TestParseKeepsRest(t *testing.T) {
	for _, rest := range []string{"", "grant", "line/7f/12ab-1", "/", "a//b", "%zz\x00\xff"} {
		want := keyspace.Key{Namespace: "default", Recipe: "lock", Name: "jobs/2", Rest: rest}
		got, err := keyspace.Parse(keyspace.Prefix("default", "lock", "jobs/2") + rest)
		if err != nil || got != want {
			t.Errorf("rest %q: got %+v, %v", rest, got, err)
		}
	}
}
