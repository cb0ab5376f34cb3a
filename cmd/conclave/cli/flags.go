package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// globals are the flags of every command.
type globals struct {
	api, endpoints    []string
	namespace         string
	authToken         string
	cacert, cert, key string
	output            choiceFlag
	timeout           durationFlag
	noColor           bool
}

func (g *globals) register(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.StringSliceVar(&g.api, "api", nil, "host API to use, comma-separated; any host will do (CONCLAVE_API)")
	fs.StringSliceVar(&g.endpoints, "endpoints", nil, "etcd to use directly, comma-separated (CONCLAVE_ENDPOINTS)")
	fs.StringVar(&g.namespace, "namespace", "", "namespace of all names (CONCLAVE_NAMESPACE; default \"default\")")
	fs.StringVar(&g.authToken, "auth-token", "", "token for the host API (CONCLAVE_AUTH_TOKEN)")
	fs.StringVar(&g.cacert, "cacert", "", "CA bundle that verifies the server (CONCLAVE_CACERT)")
	fs.StringVar(&g.cert, "cert", "", "client certificate (CONCLAVE_CERT)")
	fs.StringVar(&g.key, "key", "", "client key (CONCLAVE_KEY)")
	g.output = choiceFlag{name: "output", choices: []string{outputTable, outputJSON, outputYAML}, value: outputTable}
	fs.VarP(&g.output, "output", "o", "output format: "+strings.Join(g.output.choices, ", "))
	g.timeout = durationFlag{name: "timeout", min: time.Millisecond, max: maxDuration}
	fs.Var(&g.timeout, "timeout", "longest time for what the command asks of the cluster; elapsed: exit code 124")
	fs.BoolVar(&g.noColor, "no-color", false, "no colour in what is printed (NO_COLOR)")
}

// maxDuration is the largest value of a flag that has no limit of its own.
const maxDuration = 24 * 365 * time.Hour

// A durationFlag is a length of time between two limits.
type durationFlag struct {
	name     string
	min, max time.Duration
	whole    bool // whole seconds
	value    time.Duration
	set      bool
}

func (d *durationFlag) String() string {
	if d.value == 0 && !d.set {
		return ""
	}
	return short(d.value)
}

// Type names the kind of value in help texts.
func (d *durationFlag) Type() string { return "duration" }

// Set parses s. The error names the flag and its limits.
func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return d.invalid("%q is not a length of time", s)
	case v < d.min || v > d.max:
		return d.invalid("%s is outside the limits", s)
	case d.whole && v%time.Second != 0:
		return d.invalid("%s is not a whole number of seconds", s)
	}
	d.value, d.set = v, true
	return nil
}

func (d *durationFlag) invalid(format string, args ...any) *Error {
	limits := fmt.Sprintf("between %s and %s", short(d.min), short(d.max))
	if d.max == maxDuration {
		limits = "at least " + short(d.min)
	}
	if d.whole {
		limits += ", in whole seconds"
	}
	return usage("invalid_"+d.name, "", "--%s: %s: it must be %s, such as 15s", d.name, fmt.Sprintf(format, args...), limits)
}

// short prints a duration without units that are zero: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// A choiceFlag is one of several words.
type choiceFlag struct {
	name    string
	choices []string
	value   string
}

func (c *choiceFlag) String() string { return c.value }

// Type names the kind of value in help texts.
func (c *choiceFlag) Type() string { return "string" }

// Set accepts one of the words.
func (c *choiceFlag) Set(s string) error {
	if slices.Contains(c.choices, s) {
		c.value = s
		return nil
	}
	return usage("invalid_"+c.name, didYouMean(s, c.choices, ""), "--%s: %q is not one of %s", c.name, s, strings.Join(c.choices, ", "))
}
