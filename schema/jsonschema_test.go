package schema_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"certbook/schema"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

type backupArgs struct {
	Src   string          `yaml:"src" required:"true" doc:"what to keep"`
	Keep  int             `yaml:"keep" default:"3" min:"0" doc:"how many"`
	Age   schema.Duration `yaml:"age" default:"30d"`
	Mode  string          `yaml:"mode" default:"copy" enum:"copy|move"`
	Parts []string        `yaml:"parts" enum:"pki|etc" doc:"which parts"`
	Deep  struct {
		Ratio float64 `yaml:"ratio" required:"true"`
	} `yaml:"deep"`
	Labels map[string]int `yaml:"labels"`
	Force  bool           `yaml:"force"`
	//lint:ignore U1000 it must not be in the schema
	hidden int
}

type assertArgs struct {
	That string `yaml:"that" doc:"an <expression> & more"`
}

func actionDocs() []schema.ActionDoc {
	return []schema.ActionDoc{
		{Name: "backup-dir", Summary: "Keeps a directory", Args: reflect.TypeFor[backupArgs]()},
		{Name: "assert", Summary: "Checks a condition", Args: reflect.TypeFor[assertArgs]()},
		{Name: "check-expiry", Args: reflect.TypeFor[struct {
			Before schema.Duration `yaml:"before" required:"true"`
		}]()},
	}
}

// compiled returns a validator of the kind's schema.
func compiled(t *testing.T, kind string) func(text string) error {
	t.Helper()
	data, err := schema.JSONSchema(kind, actionDocs())
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	require.NoError(t, c.AddResource("test.json", doc))
	s, err := c.Compile("test.json")
	require.NoError(t, err)
	return func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			return err
		}
		asJSON, err := json.Marshal(v)
		if err != nil {
			return err
		}
		instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
		if err != nil {
			return err
		}
		return s.Validate(instance)
	}
}

func TestJSONSchemaAcceptsWhatTheParserAccepts(t *testing.T) {
	steps := strings.NewReplacer("depth: 1.30", "keep: 1", "again, action: backup-dir", "again, action: assert")
	for kind, texts := range map[string][]string{
		schema.KindPlaybook: {
			steps.Replace(whole),
			stepWith("backup-dir", "{src: /x}"),
			stepWith("backup-dir", `{src: "${vars.x}", keep: "${steps.a.n}", age: "${vars.y}", mode: "${vars.m}", parts: "${vars.l}", labels: "${vars.l}", force: "${run.dry}"}`),
			stepWith("backup-dir", `{src: 1.30, keep: 0, age: 1d12h, mode: move, parts: [pki, "${vars.p}"], deep: {ratio: "${vars.r}"}, labels: {a: "${vars.n}"}, force: true}`),
			stepWith("backup-dir", `{src: x, keep: null, mode: null, parts: null, force: null}`),
			stepWith("assert", `{}`),
		},
		schema.KindOverlay: {
			"version: 1\nname: o\n",
			"version: 1\nname: o\nvars: {a: {b: [1]}}\nplays: [{name: x, hosts: [a], serial: 1, on_failure: stop}]\nsteps: [{id: a, with: {anything: [goes, {here: 1}], x: null}, off: because, timeout: 0, when: true, retry: {}}]\ninsert: [{before: a, steps: [{id: b, action: assert}]}, {after: b, steps: []}]\n",
		},
		schema.KindInventory: {fleet, "version: 1\nhosts: {a: {ssh: , vars: {}}}\ngroups: {}\n", "version: 1\nsecrets: s.age\nhosts: {a: }\n"},
		schema.KindSecrets:   {vault, "version: 1\nhosts: {a: }\n"},
	} {
		validate := compiled(t, kind)
		parse := map[string]document{schema.KindPlaybook: playbook, schema.KindOverlay: overlay, schema.KindInventory: inventory, schema.KindSecrets: secrets}[kind]
		for _, text := range texts {
			require.NoError(t, parse(&schema.Source{Name: "doc.yaml", Data: []byte(text)}), text)
			require.NoError(t, validate(text), text)
		}
	}
}

func stepWith(action, with string) string {
	return head + "      - id: a\n        action: " + action + "\n        with: " + with + "\n"
}

func TestJSONSchemaRefuses(t *testing.T) {
	for kind, texts := range map[string][]string{
		schema.KindPlaybook: {
			"[]", "null", "version: 1\nname: p\n", "version: 2\nname: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			"version: 1\nname: p\nplays: []\n", "version: 1\nnmae: p\nplays: [{name: a, hosts: b, steps: []}]\n",
			"version: 1\nname: p\nplays: [{name: a, hosts: [], steps: []}]\n", "version: 1\nname: p\nplays: [{name: a, hosts: {}, steps: []}]\n",
			"version: 1\nname: p\nvars: {a-b: 1}\nplays: [{name: a, hosts: b, steps: []}]\n",
			"version: 1\nname: p\nplays: [{name: a, hosts: b, steps: [], serial: 0}]\n", "version: 1\nname: p\nplays: [{name: a, hosts: b, steps: [], serial: 101%}]\n",
			"version: 1\nname: p\nplays: [{name: a, hosts: b, steps: [], serial: 0%}]\n", "version: 1\nname: p\nplays: [{name: a, hosts: b, steps: [], serial: some}]\n",
			"version: 1\nname: p\nplays: [{name: a, hosts: b, steps: [], on_failure: rolback}]\n",
			head + "      - {action: assert}\n", head + "      - {id: a}\n", head + "      - {id: A, action: assert}\n", head + "      - {id: a, action: assret}\n",
			head + "      - {id: a, action: assert, timeout: 5}\n", head + "      - {id: a, action: assert, timeout: soon}\n", head + "      - {id: a, action: assert, off: no}\n",
			head + "      - {id: a, action: assert, retry: {attempts: 0}}\n", head + "      - {id: a, action: assert, retry: {jitter: 2}}\n",
			head + "      - {id: a, action: assert, retry: {attempts: 2.5}}\n", head + "      - {id: a, action: assert, retry: {atempts: 2}}\n",
			head + "      - {id: a, action: backup-dir}\n", stepWith("backup-dir", "{}"), stepWith("backup-dir", "{src: null}"), stepWith("backup-dir", "{src: [x]}"),
			stepWith("backup-dir", "{src: x, that: y}"), stepWith("backup-dir", "{src: x, keep: few}"), stepWith("backup-dir", "{src: x, keep: -1}"),
			stepWith("backup-dir", "{src: x, age: soon}"), stepWith("backup-dir", "{src: x, mode: cpoy}"), stepWith("backup-dir", "{src: x, parts: [pki, usr]}"),
			stepWith("backup-dir", "{src: x, deep: {}}"), stepWith("backup-dir", "{src: x, deep: {ratio: low}}"), stepWith("backup-dir", "{src: x, labels: {a: b}}"),
			stepWith("backup-dir", "{src: x, force: 1}"), stepWith("backup-dir", "{src: x, hidden: 1}"), stepWith("assert", "{src: x}"), stepWith("check-expiry", "{}"), stepWith("assert", "[]"),
		},
		schema.KindOverlay: {
			"version: 1\n", "version: 1\nname: o\nsteps: [{off: x}]\n", "version: 1\nname: o\nsteps: [{id: a, off: true}]\n", "version: 1\nname: o\nsteps: [{id: a, off: ' '}]\n",
			"version: 1\nname: o\nsteps: [{id: a, actoin: x}]\n", "version: 1\nname: o\nsteps: [{id: a, with: []}]\n",
			"version: 1\nname: o\ninsert: [{steps: []}]\n", "version: 1\nname: o\ninsert: [{before: a, after: b, steps: []}]\n", "version: 1\nname: o\ninsert: [{before: a}]\n",
			"version: 1\nname: o\ninsert: [{before: a, steps: [{id: x, action: backup-dir}]}]\n", "version: 1\nname: o\nplays: [{hosts: a}]\n",
		},
		schema.KindInventory: {
			"version: 1\n", "version: 1\nhosts: {}\n", "version: 1\nhosts: [a]\n", "version: 1\nhosts: {a: 10.0.0.1}\n", "version: 1\nhosts: {'a b': }\n", "version: 1\nhosts: {'!a': }\n",
			"version: 1\nhosts: {'': }\n", "version: 1\nhosts: {all: }\n", "version: 1\nhosts: {a: }\ngroups: {all: }\n", "version: 1\nhosts: {a: {ssh: {port: 0}}}\n",
			"version: 1\nhosts: {a: {ssh: {port: 65536}}}\n", "version: 1\nhosts: {a: {ssh: {sudo: maybe}}}\n", "version: 1\nhosts: {a: {connection: locl}}\n",
			"version: 1\nhosts: {a: {vars: {x-y: 1}}}\n", "version: 1\nhosts: {a: {adress: x}}\n", "version: 1\nhosts: {a: {ssh: {keepalive: 5}}}\n", "version: 1\nhosts: {a: }\ngroups: {g: {hosts: a}}\n",
			"version: 1\nhosts: {a: }\nsecrets: [s.age]\n",
		},
		schema.KindSecrets: {
			"vars: {a: abcd}\n", "version: 1\nsudo_pasword: x\n", "version: 1\nvars: {a-b: abcd}\n", "version: 1\nhosts: {a: secret}\n", "version: 1\ngroups: {a: {x: secret}}\n",
			"version: 1\nkey_passphrases: [x]\n", "version: 1\nsudo_password: [x]\n",
		},
	} {
		validate := compiled(t, kind)
		for _, text := range texts {
			require.Error(t, validate(text), "%s:\n%s", kind, text)
		}
	}
}

// The schema must not refuse what the parser accepts: of every mistake that it
// finds in a mutilated document the parser knows, too.
func TestJSONSchemaIsNoStricterThanTheParser(t *testing.T) {
	for kind, c := range map[string]struct {
		parse document
		text  string
	}{
		schema.KindPlaybook: {playbook, strings.ReplaceAll(whole, "with:", "# ")}, schema.KindInventory: {inventory, fleet}, schema.KindSecrets: {secrets, vault},
	} {
		data, err := schema.JSONSchema(kind, nil)
		require.NoError(t, err)
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		require.NoError(t, compiler.AddResource("x.json", doc))
		s, err := compiler.Compile("x.json")
		require.NoError(t, err)
		accepted := 0
		for i := 0; i < len(c.text); i += 13 {
			for _, insert := range []string{"", "1", "x", "~", "-", " ", "{}", "[]", "'", ": ", "\n", "5s", "%"} {
				text := c.text[:i] + insert + c.text[i+1:]
				if c.parse(&schema.Source{Name: "doc.yaml", Data: []byte(text)}) != nil {
					continue
				}
				accepted++
				var v any
				require.NoError(t, yaml.Unmarshal([]byte(text), &v))
				asJSON, err := json.Marshal(v)
				if err != nil {
					continue // a key that JSON does not have, as a number
				}
				instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
				require.NoError(t, err)
				require.NoError(t, s.Validate(instance), text)
			}
		}
		require.Greater(t, accepted, 60)
	}
}

func TestJSONSchemaText(t *testing.T) {
	one, err := schema.JSONSchema(schema.KindPlaybook, actionDocs())
	require.NoError(t, err)
	docs := actionDocs()
	docs[0], docs[2] = docs[2], docs[0]
	two, err := schema.JSONSchema(schema.KindPlaybook, docs)
	require.NoError(t, err)
	require.Equal(t, string(one), string(two), "the order of the actions does not matter")
	require.True(t, strings.HasPrefix(string(one), "{\n  \"$schema\": \"http://json-schema.org/draft-07/schema#\",\n  \"title\": \"Certbook playbook\","))
	require.True(t, strings.HasSuffix(string(one), "\n}\n"))
	for _, want := range []string{
		`"description": "an <expression> & more"`, `"description": "how many hosts at once: a number, a percentage, or all"`,
		`"default": "rollback"`, `"default": 3`, `"default": "10m"`, `"default": "30d"`, `"description": "Keeps a directory"`,
	} {
		require.Contains(t, string(one), want)
	}
	_, err = schema.JSONSchema("recipe", nil)
	require.EqualError(t, err, `no document is a "recipe"; want playbook, overlay, inventory or secrets`)
}

func TestCheckJSONSchema(t *testing.T) {
	file := filepath.Join(t.TempDir(), "playbook.json")
	require.EqualError(t, schema.CheckJSONSchema(file, schema.KindPlaybook, actionDocs()), "schema of the playbook: "+file+": no such file or directory")
	data, err := schema.JSONSchema(schema.KindPlaybook, actionDocs())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	require.NoError(t, schema.CheckJSONSchema(file, schema.KindPlaybook, actionDocs()))
	require.EqualError(t, schema.CheckJSONSchema(file, schema.KindPlaybook, actionDocs()[:2]), file+" is not the schema of the playbook any more; generate it again")
	require.Error(t, schema.CheckJSONSchema(file, "recipe", nil))
}
