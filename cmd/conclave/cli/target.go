package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	defaultEndpoint = "http://127.0.0.1:2379"
	defaultAPI      = "http://127.0.0.1:2378"
)

// A target says whom to ask and how the user chose it: hosts by their API, or
// etcd itself. One of the two lists is empty.
type target struct {
	api       []string
	endpoints []string
	from      string
	context   *contextFile // the one that named it, if one did
}

// direct reports whether the target is etcd itself, with no host between.
func (t target) direct() bool { return len(t.api) == 0 }

func (t target) addresses() string {
	if t.direct() {
		return strings.Join(t.endpoints, ", ")
	}
	return strings.Join(t.api, ", ")
}

// target finds whom to ask: flag, then environment, then context, then a running
// `conclave dev`, then the default address of a host.
func (a *app) target() (target, error) {
	for _, source := range []struct {
		api, endpoints     []string
		apiName, etcdsName string
	}{
		{a.flags.api, a.flags.endpoints, "--api", "--endpoints"},
		{list(a.env["CONCLAVE_API"]), list(a.env["CONCLAVE_ENDPOINTS"]), "CONCLAVE_API", "CONCLAVE_ENDPOINTS"},
	} {
		switch {
		case len(source.api) > 0 && len(source.endpoints) > 0:
			return target{}, usage("invalid_target", "give one of the two", "%s and %s are both given", source.apiName, source.etcdsName)
		case len(source.api) > 0:
			return target{api: source.api, from: source.apiName}, checkAPI(source.apiName, source.api)
		case len(source.endpoints) > 0:
			return a.tokenless(target{endpoints: source.endpoints, from: source.etcdsName}, checkEndpoints(source.etcdsName, source.endpoints))
		}
	}
	c, err := a.currentContext()
	if err != nil {
		return target{}, err
	}
	if c != nil {
		t := target{api: c.API, endpoints: c.Endpoints, from: "context " + c.name, context: c}
		return a.tokenless(t, nil)
	}
	return a.defaultTarget()
}

// tokenless refuses a token that the target could not use.
func (a *app) tokenless(t target, err error) (target, error) {
	if err == nil && t.direct() && a.flags.authToken != "" {
		err = usage("invalid_auth-token", "use --cert and --key with --endpoints", "--auth-token is for a host API, and %s names etcd", t.from)
	}
	return t, err
}

// defaultTarget is what to use when nothing was said.
func (a *app) defaultTarget() (target, error) {
	running := a.runningDevs()
	switch len(running) {
	case 0:
		return target{api: []string{defaultAPI}, from: "the default"}, nil
	case 1:
		if len(running[0].API) > 0 {
			return target{api: running[0].API, from: "conclave dev"}, nil
		}
		return target{endpoints: running[0].Endpoints, from: "conclave dev"}, nil
	}
	return target{}, severalDevs(running, func(dev devState) string {
		if len(dev.API) > 0 {
			return "--api " + strings.Join(dev.API, ",")
		}
		return "--endpoints " + strings.Join(dev.Endpoints, ",")
	})
}

// severalDevs refuses to choose between the devs that run.
func severalDevs(running []devState, flag func(devState) string) error {
	var all []string
	for _, dev := range running {
		all = append(all, flag(dev))
	}
	return usage("invalid_target", "choose one: "+strings.Join(all, ", or "),
		"%d conclave dev are running, and none was chosen", len(running))
}

// etcdTarget is where etcd's own tools go when nothing names an etcd for them
// alone. An API cannot serve them; one that is named keeps them from taking a
// running dev's etcd instead, unless it is that dev's.
func (a *app) etcdTarget() (target, error) {
	if endpoints := list(a.env["CONCLAVE_ENDPOINTS"]); len(endpoints) > 0 {
		return target{endpoints: endpoints, from: "CONCLAVE_ENDPOINTS"}, checkEndpoints("CONCLAVE_ENDPOINTS", endpoints)
	}
	running := a.runningDevs()
	if api := list(a.env["CONCLAVE_API"]); len(api) > 0 {
		for _, dev := range running {
			if slices.ContainsFunc(api, func(u string) bool { return slices.Contains(dev.API, strings.TrimRight(u, "/")) }) {
				return target{endpoints: dev.Endpoints, from: "conclave dev"}, nil
			}
		}
		return target{}, needsEtcd("CONCLAVE_API")
	}
	c, err := a.currentContext()
	switch {
	case err != nil:
		return target{}, err
	case c != nil && len(c.Endpoints) > 0:
		return target{endpoints: c.Endpoints, from: "context " + c.name, context: c}, nil
	case c != nil:
		return target{}, needsEtcd("context " + c.name)
	}
	switch len(running) {
	case 0:
		return target{endpoints: []string{defaultEndpoint}, from: "the default"}, nil
	case 1:
		return target{endpoints: running[0].Endpoints, from: "conclave dev"}, nil
	}
	return target{}, severalDevs(running, func(dev devState) string { return "--endpoints " + strings.Join(dev.Endpoints, ",") })
}

func needsEtcd(from string) error {
	return usage("invalid_target", "name etcd with --endpoints", "%s names a host API, and this needs etcd itself", from)
}

func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func checkEndpoints(name string, endpoints []string) error {
	for _, e := range endpoints {
		if _, err := address(e); err != nil {
			return usage("invalid_endpoints", "such as http://127.0.0.1:2379", "%s: %q is not host:port or a URL of it", name, e)
		}
	}
	return nil
}

func checkAPI(name string, urls []string) error {
	for _, u := range urls {
		if path, ok := strings.CutPrefix(u, "unix://"); ok && filepath.IsAbs(path) {
			continue
		}
		if _, err := address(u); err != nil {
			return usage("invalid_api", "such as http://127.0.0.1:2378", "%s: %q is not http://host:port, https://host:port or unix:///path", name, u)
		}
	}
	return nil
}

// address returns the host:port of an endpoint.
func address(endpoint string) (string, error) {
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
			return "", fmt.Errorf("endpoint %q", endpoint)
		}
		endpoint = u.Host
	}
	_, port, err := net.SplitHostPort(endpoint)
	if err == nil && port == "" {
		err = errors.New("no port")
	}
	return endpoint, err
}

// setting returns a flag's value, else the environment's, else fallback.
func (a *app) setting(flag, env, fallback string) string {
	if flag != "" {
		return flag
	}
	if v := a.env[env]; v != "" {
		return v
	}
	return fallback
}

// namespace returns the namespace of all names. A context's counts only where
// the context also named the target: it is one bundle.
func (a *app) namespace(t target) string {
	fallback := "default"
	if t.context != nil && t.context.Namespace != "" {
		fallback = t.context.Namespace
	}
	return a.setting(a.flags.namespace, "CONCLAVE_NAMESPACE", fallback)
}

// access is what a target may demand of a caller. Each is a file's path, but token.
type access struct{ cacert, cert, key, token string }

// access returns the user's certificates and token. Those of a context are for
// the target that it names, and are never sent to another one.
func (a *app) access(t target) (access, error) {
	var c contextFile
	if t.context != nil {
		c = *t.context
	}
	out := access{
		cacert: a.setting(a.flags.cacert, "CONCLAVE_CACERT", c.CACert),
		cert:   a.setting(a.flags.cert, "CONCLAVE_CERT", c.Cert),
		key:    a.setting(a.flags.key, "CONCLAVE_KEY", c.Key),
	}
	if t.direct() {
		return out, nil
	}
	out.token = a.setting(a.flags.authToken, "CONCLAVE_AUTH_TOKEN", "")
	if out.token == "" && c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return out, usage("invalid_auth-token", "mend the file, or give --auth-token", "context %s: its token file cannot be read: %v", c.name, err)
		}
		out.token = strings.TrimSpace(string(b))
	}
	if strings.ContainsFunc(out.token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return out, usage("invalid_auth-token", "", "the token for the host API has characters that a header cannot carry")
	}
	return out, nil
}
