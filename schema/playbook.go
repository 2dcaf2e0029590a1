package schema

import (
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Playbook is a YAML document of variables and plays.
type Playbook struct {
	Version     int              `yaml:"version" required:"true" doc:"the version of the language; 1"`
	Name        Text             `yaml:"name" required:"true" doc:"the playbook's name"`
	Description string           `yaml:"description" doc:"what it does, for people"`
	Vars        map[string]Value `yaml:"vars" doc:"variables and their defaults"`
	Plays       []Play           `yaml:"plays" required:"true" doc:"the plays, carried out in this order"`

	Source *Source
}

// Play is a list of steps for one group of hosts.
type Play struct {
	Name      Text   `yaml:"name" required:"true" doc:"the play's name"`
	Hosts     Hosts  `yaml:"hosts" required:"true" doc:"a group or host of the inventory, \"all\", or a list of these; !name leaves out"`
	Serial    Serial `yaml:"serial" default:"all" doc:"how many hosts at once: a number, a percentage, or all"`
	OnFailure string `yaml:"on_failure" default:"rollback" enum:"rollback|stop|continue" doc:"what a failed step does: revert the batch's hosts and end the run, end the run, or go on with the other hosts"`
	Steps     []Step `yaml:"steps" required:"true" doc:"the steps, carried out in this order"`
	Finally   []Step `yaml:"finally" doc:"steps that run on every host of a batch whatever happened before"`
}

// Step is one action with its arguments, condition, retries and timeout.
type Step struct {
	ID      Text             `yaml:"id" required:"true" doc:"the step's name in expressions, overlays and logs: lower case letters, digits and _"`
	Name    string           `yaml:"name" doc:"a title for people"`
	Action  Text             `yaml:"action" required:"true" doc:"the action"`
	With    map[string]Value `yaml:"with" doc:"the action's arguments"`
	When    *Text            `yaml:"when" doc:"an expression; the step is skipped when it is false"`
	Retry   *Retry           `yaml:"retry" doc:"how a failed step is tried again"`
	Timeout Duration         `yaml:"timeout" default:"10m" doc:"how long one attempt may take"`

	Off string // the reason why an overlay turned the step off; "" is on
}

// Retry says how a step that failed is tried again. Each attempt begins with
// a Check, so that only what is left is done again.
type Retry struct {
	Attempts int      `yaml:"attempts" default:"3" min:"1" max:"1000" doc:"how often the step is tried in all"`
	Delay    Duration `yaml:"delay" default:"5s" doc:"the pause before the second attempt"`
	Backoff  float64  `yaml:"backoff" default:"1" min:"1" max:"100" doc:"the factor by which each further pause grows"`
	MaxDelay Duration `yaml:"max_delay" default:"1m" doc:"the longest pause"`
	Jitter   float64  `yaml:"jitter" min:"0" max:"1" doc:"the part of a pause, 0 to 1, that is drawn at random"`
	Until    *Text    `yaml:"until" doc:"an expression; the step is tried again until it is true"`
}

// Hosts is a list of host and group names; a name that begins with ! leaves
// its hosts out.
type Hosts []Text

func (h *Hosts) unmarshal(d *Decoder, v Value) {
	if v.Node.Kind != yaml.SequenceNode {
		v = Value{Node: &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{v.Node}, Line: v.Node.Line, Column: v.Node.Column}, Source: v.Source}
	}
	list := make([]Text, len(v.Node.Content))
	for i, c := range v.Node.Content {
		list[i].unmarshal(d, Value{Node: c, Source: v.Source})
	}
	if len(list) == 0 {
		d.Add(v.Pos(), "the list of hosts is empty")
	}
	*h = list
}

// String returns the names as a person would write them.
func (h Hosts) String() string {
	names := make([]string, len(h))
	for i, t := range h {
		names[i] = t.Value
	}
	return strings.Join(names, ",")
}

// Serial is a batch size: a count, a percentage, or all hosts at once (the
// zero value).
type Serial struct {
	Count   int
	Percent int
}

func (s *Serial) unmarshal(d *Decoder, v Value) {
	const want = "serial: want a number from 1, a percentage or all, not "
	if v.Node.Kind != yaml.ScalarNode || v.IsNull() {
		d.Add(v.Pos(), want+"%s", kindName(v.Node))
		return
	}
	text := v.Node.Value
	number, isPercent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(number)
	switch {
	case text == "all":
		*s = Serial{}
	case err != nil || n < 1 || isPercent && n > 100 || text[0] == '+':
		d.Add(v.Pos(), want+"%q", text)
	case isPercent:
		s.Percent = n
	default:
		s.Count = n
	}
}

// Size returns the number of hosts in a batch, at least 1, when there are n
// hosts. A percentage is rounded down.
func (s Serial) Size(n int) int {
	switch {
	case s.Count > 0:
		return s.Count
	case s.Percent > 0:
		return max(1, n*s.Percent/100)
	}
	return max(1, n)
}

// String returns the batch size as it is written.
func (s Serial) String() string {
	switch {
	case s.Count > 0:
		return strconv.Itoa(s.Count)
	case s.Percent > 0:
		return strconv.Itoa(s.Percent) + "%"
	}
	return "all"
}

var (
	stepID  = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	varName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// ParsePlaybook reads a playbook. Its mistakes are returned all together, see
// [Diagnostics]. With mistakes that leave the rest understood, as unknown keys
// do, the playbook is returned as well, to look for others in it.
func ParsePlaybook(src *Source) (*Playbook, error) {
	var d Decoder
	p := &Playbook{Source: src}
	top, ok := Parse(src, &d.Diagnostics)
	if !ok {
		return nil, d.Err()
	}
	d.Decode(top, p)
	checkVersion(&d, top, p.Version)
	checkVars(&d, top, "vars")
	if p.Plays != nil && len(p.Plays) == 0 {
		d.Add(top.keyPos("plays"), "plays is empty; a playbook has at least one play")
	}
	checkPlays(&d, p.Plays)
	seen := map[string]Pos{}
	for _, play := range p.Plays {
		checkSteps(&d, play.Steps, seen)
		checkSteps(&d, play.Finally, seen)
	}
	if !d.aside() {
		return nil, d.Err()
	}
	return p, d.Err()
}

func checkVersion(d *Decoder, top Value, version int) {
	if v, ok := top.lookup("version"); ok && version != 1 && v.Node.Tag == "!!int" {
		d.Add(v.Pos(), "version %s is not known; this certbook reads version 1", v.Source.shown(strconv.Itoa(version)))
	}
}

// checkVars looks at the names of the variables at path.
func checkVars(d *Decoder, top Value, path ...string) {
	vars, ok := top.lookup(path...)
	if !ok || vars.Node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(vars.Node.Content); i += 2 {
		if key := vars.Node.Content[i]; key.Kind == yaml.ScalarNode && !varName.MatchString(key.Value) {
			d.Add(Value{Node: key, Source: top.Source}.Pos(), "variable name %q: want letters, digits and _, not beginning with a digit", top.Source.shown(key.Value))
		}
	}
}

// checkPlays finds plays that an overlay could not tell apart.
func checkPlays(d *Decoder, plays []Play) {
	seen := map[string]Pos{}
	for _, play := range plays {
		first, dup := seen[play.Name.Value]
		if dup && play.Name.Value != "" {
			d.Add(play.Name.Pos, "duplicate play name %q (first at %s)", play.Name.Value, first)
			continue
		}
		seen[play.Name.Value] = play.Name.Pos
	}
}

// checkSteps looks at what the types of the fields cannot say, and records ids
// in seen.
func checkSteps(d *Decoder, steps []Step, seen map[string]Pos) {
	for _, s := range steps {
		if s.ID.Value == "" {
			continue // reported as missing
		}
		if !stepID.MatchString(s.ID.Value) {
			m := d.Add(s.ID.Pos, "step id %q: want lower case letters, digits and _, beginning with a letter", s.ID.Value)
			if fixed := strings.ToLower(strings.ReplaceAll(s.ID.Value, "-", "_")); stepID.MatchString(fixed) {
				m.Hint = "write " + fixed
			}
		}
		if first, dup := seen[s.ID.Value]; dup {
			d.Add(s.ID.Pos, "duplicate step id %q (first at %s)", s.ID.Value, first)
			continue
		}
		seen[s.ID.Value] = s.ID.Pos
	}
}

// Steps returns all steps of the playbook, those of finally included, in
// order.
func (p *Playbook) Steps() []Step {
	var list []Step
	for _, play := range p.Plays {
		list = append(append(list, play.Steps...), play.Finally...)
	}
	return list
}
