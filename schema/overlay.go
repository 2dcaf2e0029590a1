package schema

import (
	"maps"
	"slices"
	"strings"
)

// Overlay is a YAML document that changes a playbook for one site.
type Overlay struct {
	Version     int              `yaml:"version" required:"true" doc:"the version of the language; 1"`
	Name        Text             `yaml:"name" required:"true" doc:"the overlay's name"`
	Description string           `yaml:"description" doc:"what it is for, for people"`
	Vars        map[string]Value `yaml:"vars" doc:"variables; they win over the playbook's"`
	Plays       []PlayPatch      `yaml:"plays" doc:"changes of plays"`
	Steps       []StepPatch      `yaml:"steps" doc:"changes of steps"`
	Insert      []Insertion      `yaml:"insert" doc:"steps to add"`

	Source *Source
}

// PlayPatch changes the named play; what is not given stays.
type PlayPatch struct {
	Name      Text    `yaml:"name" required:"true" doc:"the play to change"`
	Hosts     Hosts   `yaml:"hosts" doc:"other hosts"`
	Serial    *Serial `yaml:"serial" doc:"another batch size"`
	OnFailure string  `yaml:"on_failure" enum:"rollback|stop|continue" doc:"another failure policy"`
}

// StepPatch changes the step with this id; what is not given stays.
type StepPatch struct {
	ID      Text             `yaml:"id" required:"true" doc:"the step to change"`
	With    map[string]Value `yaml:"with" doc:"arguments to set; null takes an argument back to its default"`
	When    *Text            `yaml:"when" doc:"another condition"`
	Retry   *Retry           `yaml:"retry" doc:"other retries"`
	Timeout *Duration        `yaml:"timeout" doc:"another timeout"`
	Off     *Text            `yaml:"off" doc:"turns the step off; the text is the reason, which the plan and the log show"`
}

// Insertion adds steps before or after a step.
type Insertion struct {
	Before *Text  `yaml:"before" doc:"the step before which they come"`
	After  *Text  `yaml:"after" doc:"the step after which they come"`
	Steps  []Step `yaml:"steps" required:"true" doc:"the steps"`
}

// ParseOverlay reads an overlay. Its mistakes are returned all together.
func ParseOverlay(src *Source) (*Overlay, error) {
	var d Decoder
	o := &Overlay{Source: src}
	top, ok := Parse(src, &d.Diagnostics)
	if !ok {
		return nil, d.Err()
	}
	d.Decode(top, o)
	checkVersion(&d, top, o.Version)
	checkVars(&d, top, "vars")
	seen := map[string]Pos{}
	for _, s := range o.Steps {
		if first, dup := seen[s.ID.Value]; dup && s.ID.Value != "" {
			d.Add(s.ID.Pos, "step %q is changed twice (first at %s)", s.ID.Value, first)
		}
		seen[s.ID.Value] = s.ID.Pos
		if s.Off != nil && !s.Off.reason() {
			d.Add(s.Off.Pos, "off: give the reason why step %q is not wanted", s.ID.Value)
		}
	}
	added := map[string]Pos{}
	for i, in := range o.Insert {
		if (in.Before == nil) == (in.After == nil) {
			list, _ := top.lookup("insert")
			d.Add(Value{Node: list.Node.Content[i], Source: src}.Pos(), "insert: give either before or after")
		}
		checkSteps(&d, in.Steps, added)
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return o, nil
}

// reason reports whether a text says something; "off: false" does not.
func (t Text) reason() bool {
	return strings.TrimSpace(t.Value) != "" && (t.written.Node == nil || t.written.Node.Tag != "!!bool")
}

// With returns a copy of the playbook with the overlay's changes. The receiver
// is not changed.
func (p *Playbook) With(o *Overlay) (*Playbook, error) {
	var d Diagnostics
	out := p.clone()
	maps.Copy(out.Vars, o.Vars)
	for _, patch := range o.Plays {
		out.patchPlay(patch, &d)
	}
	for _, in := range o.Insert {
		out.insert(in, &d)
	}
	for _, patch := range o.Steps {
		if s := out.find(patch.ID, &d); s != nil {
			s.patch(patch)
		}
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

func (p *Playbook) clone() *Playbook {
	out := *p
	out.Vars = maps.Clone(p.Vars)
	if out.Vars == nil {
		out.Vars = map[string]Value{}
	}
	out.Plays = slices.Clone(p.Plays)
	for i := range out.Plays {
		out.Plays[i].Steps = slices.Clone(out.Plays[i].Steps)
		out.Plays[i].Finally = slices.Clone(out.Plays[i].Finally)
	}
	return &out
}

func (p *Playbook) patchPlay(patch PlayPatch, d *Diagnostics) {
	var names []string
	for i := range p.Plays {
		play := &p.Plays[i]
		names = append(names, play.Name.Value)
		if play.Name.Value != patch.Name.Value {
			continue
		}
		if patch.Hosts != nil {
			play.Hosts = patch.Hosts
		}
		if patch.Serial != nil {
			play.Serial = *patch.Serial
		}
		if patch.OnFailure != "" {
			play.OnFailure = patch.OnFailure
		}
		return
	}
	d.Add(patch.Name.Pos, "no play %q in playbook %q%s", patch.Name.Value, p.Name.Value, Suggest(patch.Name.Value, names))
}

// lists returns every list of steps of the playbook.
func (p *Playbook) lists() []*[]Step {
	var lists []*[]Step
	for i := range p.Plays {
		lists = append(lists, &p.Plays[i].Steps, &p.Plays[i].Finally)
	}
	return lists
}

func (p *Playbook) find(id Text, d *Diagnostics) *Step {
	var ids []string
	for _, list := range p.lists() {
		for i := range *list {
			if (*list)[i].ID.Value == id.Value {
				return &(*list)[i]
			}
			ids = append(ids, (*list)[i].ID.Value)
		}
	}
	d.Add(id.Pos, "no step %q in playbook %q%s", id.Value, p.Name.Value, Suggest(id.Value, ids))
	return nil
}

func (p *Playbook) insert(in Insertion, d *Diagnostics) {
	anchor, offset := in.Before, 0
	if anchor == nil {
		anchor, offset = in.After, 1
	}
	if p.find(*anchor, d) == nil {
		return
	}
	for _, s := range in.Steps {
		for _, have := range p.Steps() {
			if have.ID.Value == s.ID.Value {
				d.Add(s.ID.Pos, "step id %q is taken (at %s)", s.ID.Value, have.ID.Pos)
			}
		}
	}
	for _, list := range p.lists() {
		at := slices.IndexFunc(*list, func(s Step) bool { return s.ID.Value == anchor.Value })
		if at >= 0 {
			*list = slices.Insert(*list, at+offset, in.Steps...)
		}
	}
}

func (s *Step) patch(p StepPatch) {
	if p.With != nil {
		s.With = maps.Clone(s.With)
		if s.With == nil {
			s.With = map[string]Value{}
		}
		for name, v := range p.With {
			if v.IsNull() {
				delete(s.With, name)
			} else {
				s.With[name] = v
			}
		}
	}
	if p.When != nil {
		s.When = p.When
	}
	if p.Retry != nil {
		s.Retry = p.Retry
	}
	if p.Timeout != nil {
		s.Timeout = *p.Timeout
	}
	if p.Off != nil {
		s.Off = p.Off.Value
	}
}
