"""Units by their spellings, each under its first one; no single letter that is a word."""

from __future__ import annotations

_SPELLINGS = """
mm millimetre millimetres millimeter millimeters milímetros
cm centimetre centimetres centimeter centimeters centímetros zentimeter
m metre metres meter meters metro metros mètres
km kilometre kilometres kilometer kilometers kilómetro kilómetros
inch inches \u2033 pulgada pulgadas zoll
ft foot feet \u2032
yd yard yards
mile miles milla millas meilen
g gram grams gramm gramo gramos grammes
kg kilo kilos kilogram kilograms kilogramm kilogramos
mg milligram milligrams
lb lbs pound pounds
oz ounce ounces
ml millilitre millilitres milliliter milliliters mililitros
cl centilitre centilitres
l litre litres liter liters litro litros
gallon gallons gal
% percent prozent
°c
°f
w watt watts
kw kilowatt kilowatts
kwh
v volt volts voltios
mah
hz hertz
mb
gb
tb
second seconds sec secs segundo segundos sekunde sekunden
minute minutes min mins minuto minutos minuten
hour hours h hr hrs hora horas stunde stunden heure heures
day days día días dia dias tag tage tagen jour jours
week weeks semana semanas woche wochen semaine semaines
month months mes meses monat monate monaten mois
year years año años jahr jahre jahren an ans
"""
_LINES = [line.split() for line in _SPELLINGS.strip().splitlines()]
UNITS = {spelling: line[0] for line in _LINES for spelling in line}
"""The unit by each of its spellings, in small letters."""
