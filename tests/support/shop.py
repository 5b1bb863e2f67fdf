"""The small contract of most tests: a shop that offers its members a warranty."""

SHOP = """\
name: shop
title: A shop that offers its members a warranty
source:
  file: orders.csv
  format: {separator: ";", decimal: ","}
target: {column: bought, positive: ja, negative: nein}
time: {column: asked on}
segments: [channel, spending]
columns:
  - {name: order, role: identifier, type: text}
  - {name: asked on, role: time, type: date}
  - name: spending
    role: customer
    type: number
    unit: EUR
    min: 0
    max: 10000
    bands: [100, 1000]
  - name: visits
    role: customer
    type: integer
    min: 0
    max: 50
    missing: [99, "?"]
  - {name: channel, role: offer, type: category, values: [mail, phone, web]}
  - {name: region, role: customer, type: category, values: [north, south], unknown: missing}
  - {name: member, role: customer, type: boolean}
  - {name: rating, role: context, type: number, nullable: true}
  - {name: minutes, role: leakage, type: integer}
  - {name: bought, role: target, type: category}
evaluation: {train_share: 0.5, windows: 2, refit_every: 100, folds: 3, bootstrap: 50}
model: {trees: 20, depth: 3, learning_rate: 0.2}
calibration: {rows: 300, prior: 10}
gate:
  - {metric: auc, on: pooled, at_least: 0.6}
  - {metric: ece, on: each_window, at_most: 0.2}
"""
