package host

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// readyBudget bounds a look at etcd on behalf of /readyz.
const readyBudget = 2 * time.Second

// A check is one line of /livez or /readyz.
type check struct {
	name string
	look func(ctx context.Context) error
}

// healthz answers 200 if all checks pass, else 503: "ok" or what is wrong, and
// every check with ?verbose.
func healthz(checks func() []check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readyBudget)
		defer cancel()
		failed, lines := look(ctx, checks())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if failed {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if failed || r.URL.Query().Has("verbose") {
			_, _ = fmt.Fprintln(w, strings.Join(lines, "\n"))
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
}

// look makes all checks at once.
func look(ctx context.Context, checks []check) (failed bool, lines []string) {
	lines = make([]string, len(checks))
	errs := make([]error, len(checks))
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() { errs[i] = c.look(ctx) })
	}
	all.Wait()
	for i, c := range checks {
		lines[i] = "[+] " + c.name + " ok"
		if errs[i] != nil {
			lines[i] = "[-] " + c.name + ": " + oneLine(errs[i])
		}
	}
	failed = slices.ContainsFunc(errs, func(err error) bool { return err != nil })
	return failed, lines
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}
