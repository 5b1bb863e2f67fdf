"""A catalogue for the shop's contract."""

WARRANTIES = """\
name: warranties
contract: shop
eligibility:
  - {reason: NO_CUSTOMER_YET, column: visits, at_least: 1}
families:
  - {name: short, limit: 1}
  - name: long
    suitability:
      - reason: FAR_AWAY
        any:
          - {column: region, equals: north}
          - {column: spending, at_least: 500}
policy: {k: 2}
offers:
  - id: basic
    title: One year
    family: short
    attributes: {channel: mail}
    value: 10
    cost: 1
  - id: full
    title: The whole five years
    family: long
    attributes: {channel: phone}
    value: 30
    cost: 4
    lever: 1.5
    weights: [{when: {column: rating, at_least: 4}, weight: 2}]
  - id: free
    title: Half a year, for members
    family: short
    attributes: {channel: web}
    value: 5
    eligibility: [{reason: NO_MEMBER, column: member, equals: true}]
"""
