package keyspace_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/conclavehq/conclave/internal/keyspace"
)

func TestSessionKeysAreTheHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ns := rapid.StringMatching(`[a-z_%.é ]{1,8}`).Draw(t, "namespace")
		if keyspace.CheckNamespace("namespace", ns) != nil {
			return
		}
		key := keyspace.SessionKey(ns, "id")
		gotNS, id, err := keyspace.ParseSession(key)
		if err != nil || gotNS != ns || id != "id" {
			t.Fatalf("%q gives %q, %q, %v", key, gotNS, id, err)
		}
		if !strings.HasPrefix(key, keyspace.SessionPrefix(ns)) {
			t.Fatalf("%q is outside the prefix of its namespace", key)
		}
		if _, err := keyspace.Parse(key); !errors.Is(err, keyspace.ErrNotKey) {
			t.Fatalf("%q is a recipe's key", key)
		}
	})
}

func TestParseSessionRefusesOtherKeys(t *testing.T) {
	for _, key := range []string{
		"", "/conclave/_host/session/", "/conclave/_host/session/default", "/conclave/_host/session/default/",
		"/conclave/_host/session//id", "/conclave/_host/session/default/id/more", "/conclave/_host/session/%64efault/id",
		"/conclave/_host/session/../id", "/conclave/_host/sessions/default/id", "/conclave/default/session/x/id",
	} {
		if ns, id, err := keyspace.ParseSession(key); !errors.Is(err, keyspace.ErrNotKey) {
			t.Errorf("%q gives %q, %q, %v", key, ns, id, err)
		}
	}
}
