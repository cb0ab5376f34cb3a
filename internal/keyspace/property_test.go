package keyspace_test

import (
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// names draws names of the kinds that confuse prefixes: few letters, so that one
// often begins with another, and every character with a meaning somewhere.
func names() *rapid.Generator[string] {
	segment := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("ab2_.~%-0üF/")), 1, 5, -1),
		rapid.StringOfN(rapid.RuneFrom(nil, unicode.L, unicode.P, unicode.S), 1, 20, -1),
	)
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(segment, 1, 4).Draw(t, "segments"), "/")
	}).Filter(func(s string) bool { return keyspace.CheckName("", s) == nil })
}

func namespaces() *rapid.Generator[string] {
	return names().Filter(func(s string) bool { return keyspace.CheckNamespace("", s) == nil })
}

func TestParseInvertsPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := keyspace.Key{
			Namespace: namespaces().Draw(t, "namespace"),
			Recipe:    rapid.SampledFrom([]string{"lock", "rate-limit", "q2"}).Draw(t, "recipe"),
			Name:      names().Draw(t, "name"),
			Rest:      rapid.String().Draw(t, "rest"),
		}
		got, err := keyspace.Parse(want.String())
		if err != nil || got != want {
			t.Fatalf("Parse(%q) = %+v, %v, want %+v", want.String(), got, err, want)
		}
	})
}

func TestNoPrefixCoversAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nsA, nsB := namespaces().Draw(t, "namespace a"), namespaces().Draw(t, "namespace b")
		a := names().Draw(t, "name a")
		b := rapid.OneOf(names(), rapid.Just(a+"2"), rapid.Just(a+"/2")).Draw(t, "name b")
		if nsA == nsB && a == b {
			return
		}
		pa := keyspace.Prefix(nsA, "lock", a)
		key := keyspace.Prefix(nsB, "lock", b) + rapid.String().Draw(t, "rest")
		if strings.HasPrefix(key, pa) || inRange(key, pa) {
			t.Fatalf("%q covers %q", pa, key)
		}
		if host := keyspace.HostPrefix("session"); inRange(key, host) || inRange(host, pa) {
			t.Fatalf("%q meets the host's %q", key, host)
		}
	})
}

func TestEndIsTheRangeOfThePrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := keyspace.Prefix(namespaces().Draw(t, "namespace"), "lock", names().Draw(t, "name"))
		key := rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) string { return prefix + s }),
			rapid.Map(rapid.String(), func(s string) string { return strings.TrimSuffix(prefix, "/") + s }),
			rapid.String(),
		).Draw(t, "key")
		if got, want := inRange(key, prefix), strings.HasPrefix(key, prefix); got != want {
			t.Fatalf("%q in the range of %q: %v, want %v", key, prefix, got, want)
		}
	})
}

func inRange(key, prefix string) bool { return prefix <= key && key < keyspace.End(prefix) }

func TestEscapeProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkEscape(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
	})
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "jobs", "jobs/2", "_host", "%5F", "\xff\x00", "ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkEscape(t, s) })
}

func checkEscape(t rapid.TB, s string) {
	t.Helper()
	e := keyspace.Escape(s)
	if i := strings.IndexFunc(e, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }); i >= 0 {
		t.Fatalf("Escape(%q) = %q has %q", s, e, e[i])
	}
	if strings.HasPrefix(e, "_") {
		t.Fatalf("Escape(%q) = %q begins with an underscore", s, e)
	}
	if got, err := keyspace.Unescape(e); err != nil || got != s {
		t.Fatalf("Unescape(%q) = %q, %v, want %q", e, got, err, s)
	}
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"", "a%2Fb", "%2f", "%", "%5Fhost", "_host", "%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := keyspace.Unescape(s)
		if err == nil && keyspace.Escape(got) != s {
			t.Fatalf("%q was accepted as %q, whose spelling is %q", s, got, keyspace.Escape(got))
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(keyspace.Prefix("default", "lock", "jobs/2") + "grant")
	f.Add(keyspace.HostPrefix("session"))
	f.Add("/conclave/a/b/c")
	f.Add("/conclave/%5Fhost/lock/%25/")
	f.Fuzz(func(t *testing.T, key string) {
		k, err := keyspace.Parse(key)
		if err != nil {
			return
		}
		if k.String() != key {
			t.Fatalf("%q was read as %+v, which is %q", key, k, k.String())
		}
		if err := keyspace.CheckName("name", k.Name); err != nil {
			t.Fatalf("%q gave a name that is refused: %v", key, err)
		}
	})
}
