package rules

import (
	"fmt"
	"slices"
)

// An ImportRule says what some packages must not import, and why.
type ImportRule struct {
	Name   string
	Who    []string // patterns of the packages that the rule is about
	Except []string // patterns of packages in Who that it is not about
	Never  []string // patterns of what they must not import
	But    []string // patterns in Never that they may import all the same
	Direct bool     // only about their own import lines, not about what those bring
	Why    string
}

// What the import table names more than once.
var (
	libraries = []string{"./lock/...", "./election/...", "./barrier/...", "./queue/...", "./discovery/...", "./config/..."}
	recipes   = []string{"./recipes/..."}
	plugins   = []string{"./plugins/..."}
	testKits  = []string{"./recipes/recipetest", "./recipes/internal/servicetest/...", "./core/coretest/..."}
	suite     = []string{"./recipes/recipetest/conformance/..."}
	server    = []string{"go.etcd.io/etcd/server/v3/..."}
	fx        = []string{"go.uber.org/fx/..."}
	goPlugin  = []string{"github.com/hashicorp/go-plugin/..."}
	loggers   = []string{
		"log", "go.uber.org/zap/...", "github.com/hashicorp/go-hclog/...", "github.com/sirupsen/logrus/...",
		"github.com/rs/zerolog/...", "github.com/go-logr/logr/...", "k8s.io/klog/...",
	}
)

// ImportTable returns the house's import rules.
func ImportTable() []ImportRule {
	return slices.Concat(mechanismRules(), libraryRules(), recipeRules(), hostRules())
}

func mechanismRules() []ImportRule {
	return []ImportRule{
		{
			Name: "core stands alone",
			Who:  []string{"./core"}, Never: []string{"./..."}, But: []string{"./core", "./internal/..."},
			Why: "every recipe stands on core, so whatever core imports everybody imports",
		},
		{
			Name: "core is light",
			Who:  []string{"./core"}, Never: slices.Concat(server, fx, goPlugin),
			Why: "a library that is usable against any etcd cannot bring a server or a framework with it",
		},
		{
			Name: "core logs with slog",
			Who:  []string{"./core"}, Never: loggers, Direct: true,
			Why: "the program chooses its logger; slog is what every logger can stand behind",
		},
		{
			Name: "mechanisms are below",
			Who:  []string{"./internal/..."}, Except: []string{"./internal/waitqueue/..."},
			Never: []string{"./..."}, But: []string{"./internal/...", "./api/..."},
			Why: "a mechanism that knows the packages above it can no longer be tested or replaced alone",
		},
		{
			Name: "waitqueue knows core only",
			Who:  []string{"./internal/waitqueue/..."}, Never: []string{"./..."},
			But: []string{"./internal/...", "./api/...", "./core"},
			Why: "the line of waiters acquires under a session, and needs nothing else from above",
		},
		{
			Name: "mechanisms are light",
			Who:  []string{"./internal/..."}, Never: slices.Concat(server, fx),
			Why: "the libraries compile them, and their users must not compile a server or a framework",
		},
	}
}

func libraryRules() []ImportRule {
	rules := []ImportRule{
		{
			Name: "libraries stand beside each other",
			Who:  libraries, Never: slices.Concat(recipes, plugins, []string{"./core/host/...", "./core/embedded/..."}),
			Why: "a library serves a program that has an etcd and nothing else of Conclave",
		},
		{
			Name: "libraries are light",
			Who:  libraries, Never: slices.Concat(server, fx, goPlugin),
			Why: "who wants a lock must not compile a server, a framework or a plugin system",
		},
		{
			Name: "libraries log with slog",
			Who:  libraries, Never: loggers, Direct: true,
			Why: "the program chooses its logger; slog is what every logger can stand behind",
		},
	}
	for _, library := range libraries {
		rules = append(rules, ImportRule{
			Name: "no library imports another",
			Who:  []string{library}, Never: libraries, But: []string{library},
			Why: "what two libraries share is a mechanism and belongs in internal/, where it has one meaning",
		})
	}
	return rules
}

func recipeRules() []ImportRule {
	return []ImportRule{
		{
			Name:  "the contract and the SDK are light",
			Who:   []string{"./core/recipe/...", "./plugins", "./plugins/internal/..."},
			Never: slices.Concat(server, fx, libraries, []string{"./core/host/..."}),
			Why:   "a plugin's author compiles them, and writes a recipe without the host or the standard set",
		},
		{
			Name: "recipes do not know where they run",
			Who:  recipes, Except: []string{"./recipes/recipetest/..."},
			Never: slices.Concat(server, fx, goPlugin, plugins, []string{"./core/host/..."}),
			Why:   "the same recipe runs in the host's process and as a plugin",
		},
		{
			Name: "test kits stay in tests",
			Who:  []string{"./..."}, Except: testKits, Never: testKits,
			Why: "a test kit brings the testing package with it, and mostly an etcd server",
		},
		{
			Name: "the suite is run, not built upon",
			Who:  []string{"./..."}, Except: []string{"./recipes/recipetest/...", "./cmd/..."}, Never: suite,
			Why: "it brings an etcd server and a host; the test kit and the program run it for everybody else",
		},
	}
}

func hostRules() []ImportRule {
	return []ImportRule{
		{
			Name: "the host sees the contract only",
			Who:  []string{"./core/host/..."}, Never: slices.Concat(recipes, libraries, plugins),
			Why: "a recipe of a third party must get exactly what a standard recipe gets",
		},
		{
			Name:  "the launcher forwards and supervises",
			Who:   []string{"./plugins/launcher/..."},
			Never: slices.Concat(recipes, libraries, server, fx, []string{"./core/host/..."}),
			Why:   "it gives the host one recipe per plugin and must know neither side's insides",
		},
		{
			Name: "fx at the edge",
			Who:  []string{"./..."}, Except: []string{"./core/host/...", "./cmd/..."}, Never: fx, Direct: true,
			Why: "constructors are ordinary functions; only the two places that wire them need a container",
		},
		{
			Name: "go-plugin in plugins alone",
			Who:  []string{"./..."}, Except: plugins, Never: goPlugin, Direct: true,
			Why: "the transport of plugins can change without anything else noticing",
		},
		{
			Name: "nothing imports the program",
			Who:  []string{"./..."}, Except: []string{"./cmd/..."}, Never: []string{"./cmd/..."},
			Why: "cmd wires everything, so whatever imports it imports everything",
		},
	}
}

// CheckImports applies the rules to packages, as List returns them. A package
// that breaks a rule is one violation, however much it must not import.
func CheckImports(rules []ImportRule, packages []Package) []string {
	var violations []string
	for _, r := range rules {
		for _, p := range packages {
			if bad := r.broken(p); len(bad) > 0 {
				violations = append(violations, r.describe(p, bad))
			}
		}
	}
	return violations
}

// broken returns what p imports against the rule.
func (r ImportRule) broken(p Package) []string {
	if !matchesAny(r.Who, p.ImportPath) || matchesAny(r.Except, p.ImportPath) {
		return nil
	}
	seen := p.Deps
	if r.Direct {
		seen = p.Imports
	}
	var bad []string
	for _, dep := range seen {
		if matchesAny(r.Never, dep) && !matchesAny(r.But, dep) {
			bad = append(bad, dep)
		}
	}
	return bad
}

func (r ImportRule) describe(p Package, bad []string) string {
	verb, more := "needs", ""
	if r.Direct {
		verb = "imports"
	}
	if n := len(bad) - 1; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%s %s %s%s: %s (%s)", p.ImportPath, verb, bad[0], more, r.Why, r.Name)
}
