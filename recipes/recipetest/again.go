package recipetest

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/recipes/recipetest/conformance"
)

// The environment in which a test's program is something else: the plugin of the
// test of that name, or a host that is to be killed.
const (
	pluginEnv = "CONCLAVE_RECIPETEST_PLUGIN"
	hostEnv   = "CONCLAVE_RECIPETEST_HOST"
)

// Dispatch serves the recipe, and ends the process, if the process was started as
// a plugin by Run. In any other process it returns at once. A TestMain that starts
// something calls it first, so that the plugin does not; one that does not need
// not.
func Dispatch(r recipe.Recipe) {
	if os.Getenv(pluginEnv) != "" {
		plugins.Serve(r)
	}
	if os.Getenv(hostEnv) != "" {
		host()
	}
}

// become is Dispatch of a test.
func become(test string, r recipe.Recipe) {
	if os.Getenv(pluginEnv) == test {
		plugins.Serve(r)
	}
	if os.Getenv(hostEnv) == test {
		host()
	}
}

// host is a host until its standard input ends.
func host() {
	code := 0
	if err := conformance.Host(context.Background(), os.Stdin, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err) // there is nobody else to tell
		code = 1
	}
	os.Exit(code) //nolint:revive // the process is a host, and no test any more
}

// again is this program, started as the plugin of the test.
func again(t *testing.T) *conformance.Program {
	t.Helper()
	return self(t, pluginEnv)
}

// hostAgain is this program, started as a host.
func hostAgain(t *testing.T) *conformance.Program {
	t.Helper()
	return self(t, hostEnv)
}

func self(t *testing.T, as string) *conformance.Program {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var exactly []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		exactly = append(exactly, "^"+regexp.QuoteMeta(part)+"$")
	}
	return &conformance.Program{Path: path, Args: []string{"-test.run=" + strings.Join(exactly, "/")}, Env: []string{as + "=" + t.Name(), "GORACE=atexit_sleep_ms=0"}} // or each process waits a second before it ends
}
