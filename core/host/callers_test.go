package host_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/host"
)

// Who has no token is refused in every way of calling, and who has one is known to
// recipes and sessions by his name.
func TestCallersAreAskedWhoTheyAre(t *testing.T) {
	t.Parallel()
	sum := func(token string) string {
		s := sha256.Sum256([]byte(token))
		return hex.EncodeToString(s[:])
	}
	file := filepath.Join(t.TempDir(), "callers.yaml")
	text := "callers:\n- {name: ci, token_sha256: " + sum("secret") + ", may: write}\n- {name: ops, token_sha256: " + sum("other") + ", may: write}\n- {name: boss, certificate: boss, may: admin}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := config(t)
	cfg.Auth.Callers = file
	h := start(t, cfg, host.WithRecipe(keeper{}), host.WithHTTP("GET /extra", http.NotFoundHandler()))
	as := func(token, method, path, body string) answer {
		req := must[*http.Request](t)(http.NewRequestWithContext(within(t), method, h.API()+path, strings.NewReader(body)))
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		return do(t, web(t), req)
	}
	for _, c := range []struct {
		token, method, path string
		want                int
	}{
		{"", "POST", "/conclave.session.v1.SessionService/Open", http.StatusUnauthorized},
		{"guess", "POST", "/conclave.session.v1.SessionService/Open", http.StatusUnauthorized},
		{"secret", "POST", "/conclave.session.v1.SessionService/Open", http.StatusOK},
		{"", "GET", "/metrics", http.StatusUnauthorized},
		{"secret", "GET", "/metrics", http.StatusOK},
		{"", "GET", "/extra", http.StatusUnauthorized},
		{"secret", "GET", "/extra", http.StatusNotFound},
		{"", "GET", "/livez", http.StatusOK},
		{"", "GET", "/readyz", http.StatusOK},
		{"", "GET", "/ui/", http.StatusOK},
		{"secret", "POST", "/conclave.lock.v1.LockService/ForceRelease", http.StatusForbidden},
	} {
		if got := as(c.token, c.method, c.path, "{}"); got.status != c.want {
			t.Errorf("%s %s as %q: got %d %s, want %d", c.method, c.path, c.token, got.status, got.body, c.want)
		}
	}
	// A session is its opener's, whoever else knows its id.
	s := as("secret", "POST", "/conclave.session.v1.SessionService/Open", "{}")
	renew := `{"sessionId":"` + s.SessionID + `"}`
	if got := as("other", "POST", "/conclave.session.v1.SessionService/Renew", renew); got.status == http.StatusOK {
		t.Errorf("another caller renewed the session: %s", got.body)
	}
	if got := as("secret", "POST", "/conclave.session.v1.SessionService/Renew", renew); got.status != http.StatusOK {
		t.Errorf("its opener could not renew it: %s", got.body)
	}
	if got := do(t, overSocket(t, cfg.DataDir), must[*http.Request](t)(http.NewRequestWithContext(within(t), http.MethodGet, "http://localhost/metrics", http.NoBody))); got.status != http.StatusOK {
		t.Errorf("the administrator's socket: %d %s", got.status, got.body)
	}
}
