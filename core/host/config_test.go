package host_test

import (
	"errors"
	"strings"
	"testing"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := host.Parse([]byte(`
name: one
data_dir: /var/lib/conclave
api: {listen: "127.0.0.1:0", names: [conclave.internal]}
etcd: {mode: embedded, listen_client: "127.0.0.1:0"}
recipes: {lock: {mode: "off", config: {history: 3}}}
plugins: {policy: warn}
log: {level: debug}
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "one" || c.API.Names[0] != "conclave.internal" || c.Recipes["lock"].Mode != "off" || string(c.Recipes["lock"].Config) != `{"history":3}` ||
		string(c.Plugins) != `{"policy":"warn"}` {
		t.Errorf("parsed %+v", c)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

// YAML reads the bare word off as false.
func TestParseModeOff(t *testing.T) {
	t.Parallel()
	for _, off := range []string{"off", `"off"`, "false"} {
		c, err := host.Parse([]byte("data_dir: d\nrecipes: {lock: {mode: " + off + "}}"))
		if err == nil {
			err = c.Check()
		}
		if err != nil || c.Recipes["lock"].Mode != "off" {
			t.Errorf("%s: %q, %v", off, c.Recipes["lock"].Mode, err)
		}
	}
}

// What is wrong is named as the file names it, with what was meant.
func TestParseNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"data_dri: x":                         `unknown key "data_dri"; did you mean "data_dir"?`,
		"api: {lisen: x}":                     `unknown key "lisen"; did you mean "listen"?`,
		"api: {listen: 3}":                    "api.listen: number is not text",
		"limits: {calls: many}":               "limits.calls: string is not a whole number",
		"name: [":                             "invalid configuration",
		"name: a\nname: b":                    `key "name" already set`,
		"recipes: {lock: {config: {}, m: 1}}": `unknown key "m"`,
		"recipes: {lock: {mode: 3}}":          "is not text",
		"- a":                                 "the file: array is not a group of keys",
	} {
		_, err := host.Parse([]byte(text))
		if !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestCheckNamesTheField(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config host.Config
		want   string
	}{
		"no data directory":   {host.Config{}, "data_dir: is empty"},
		"no endpoints":        {host.Config{Etcd: host.Etcd{Mode: host.External}}, "etcd.endpoints: is empty"},
		"both":                {host.Config{DataDir: "d", Etcd: host.Etcd{Mode: host.Embedded, Endpoints: []string{"a:1"}}}, "etcd.endpoints: is for mode external"},
		"mode":                {host.Config{DataDir: "d", Etcd: host.Etcd{Mode: "remote"}}, `etcd.mode: "remote" is not one of embedded, external`},
		"open to the network": {host.Config{DataDir: "d", API: host.API{Listen: "0.0.0.0:2378"}}, "api.listen: 0.0.0.0:2378 is reachable from other machines"},
		"open by no host":     {host.Config{DataDir: "d", API: host.API{Listen: ":2378"}}, "api.listen: :2378 is reachable"},
		"no port":             {host.Config{DataDir: "d", API: host.API{Listen: "localhost"}}, `api.listen: "localhost" is not host:port`},
		"port by name":        {host.Config{DataDir: "d", API: host.API{Listen: "localhost:http"}}, `port "http" is not a number`},
		"port too large":      {host.Config{DataDir: "d", Etcd: host.Etcd{ListenPeer: "localhost:65536"}}, `etcd.listen_peer: "localhost:65536": port`},
		"half a key pair":     {host.Config{DataDir: "d", TLS: host.TLS{Cert: "c"}}, "tls: cert and key go together"},
		"limit":               {host.Config{DataDir: "d", Limits: host.Limits{Calls: -1}}, "limits.calls: -1 is negative"},
		"recipe mode":         {host.Config{DataDir: "d", Recipes: map[string]host.RecipeConfig{"lock": {Mode: "on"}}}, `recipes.lock.mode: "on" is not one of inprocess, subprocess, off`},
		"level":               {host.Config{DataDir: "d", Log: host.Log{Level: "loud"}}, `log.level: "loud" is not one of`},
	} {
		if err := tt.config.Check(); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	for name, c := range map[string]host.Config{
		"loopback": {DataDir: "d"}, "trusted network": {DataDir: "d", API: host.API{Listen: "0.0.0.0:1", InsecureListen: true}},
		"external": {Etcd: host.Etcd{Endpoints: []string{"http://a:2379"}}},
	} {
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tuned is a recipe with a configuration.
type tuned struct{ keeper }

func (tuned) Info() recipe.Info {
	return recipe.Info{Name: "tuned", Version: "1.0.0", Summary: "Takes a configuration", Config: &lockv1.Config{}}
}

// A mistake in a recipe's configuration is told before anything is started.
func TestNewReadsTheRecipesConfigurations(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		recipe recipe.Recipe
		config string
		want   string // empty: none
	}{
		"right":   {tuned{}, `{"history_endings": 3, "historyOff": true}`, ""},
		"unknown": {tuned{}, `{"histry_off": true}`, `recipes.tuned.config: unknown field "histry_off"; did you mean "history_off"?`},
		"type":    {tuned{}, `{"history_off": "no"}`, `recipes.tuned.config: invalid value for bool field historyOff: "no"`},
		"limits":  {lock.Recipe{}, `{"history_endings": 100000}`, "recipes.lock.config: history_endings: 100000 is outside 1 to 1000"},
		"none":    {keeper{}, `{"a": 1}`, "recipes.keeper.config: the recipe takes no configuration"},
	} {
		cfg := onEtcd()
		cfg.Recipes = map[string]host.RecipeConfig{tt.recipe.Info().Name: {Config: []byte(tt.config)}}
		_, err := host.New(cfg, host.WithRecipe(tt.recipe))
		if (tt.want == "") != (err == nil) || err != nil && (!errors.Is(err, host.ErrConfig) || !strings.HasSuffix(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// A recipe that the host is given later may be configured before; any other name is
// a slip.
func TestNewKnowsTheRecipesThatItConfigures(t *testing.T) {
	t.Parallel()
	for mode, known := range map[host.RecipeMode]bool{"": false, host.Inprocess: false, host.Off: false, host.Subprocess: true} {
		cfg := onEtcd()
		cfg.Recipes = map[string]host.RecipeConfig{"later": {Mode: mode}}
		if _, err := host.New(cfg, host.WithRecipe(keeper{})); (err == nil) != known {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
}
