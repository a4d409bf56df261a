"""What `specialist doctor` looks at, a finding each. It makes nothing that stays."""
